//! A request body that is kept while it is small, so that it can be sent again.

use super::body::{Body, BodyError};
use bytes::Bytes;
use http_body::{Body as _, Frame};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

/// What is kept of one body; a larger one is sent once.
const KEPT: usize = 64 * 1024;

/// One reading of a kept body. Only the latest reading gets what has not come yet.
#[derive(Debug)]
pub struct Replay {
    shared: Arc<Mutex<Shared>>,
    position: usize,
}

#[derive(Debug)]
struct Shared {
    source: Body,
    kept: Vec<Kept>,
    size: usize,
    /// Past the limit: nothing is kept any more.
    too_large: bool,
    ended: bool,
    failed: bool,
}

#[derive(Debug, Clone)]
enum Kept {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

impl Kept {
    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

impl Replay {
    /// The first reading.
    pub fn new(source: Body) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                source,
                kept: Vec::new(),
                size: 0,
                too_large: false,
                ended: false,
                failed: false,
            })),
            position: 0,
        }
    }

    /// Whether it can be read from the start again: not too much has gone by.
    pub fn repeatable(&self) -> bool {
        let shared = self.shared();
        !shared.too_large && !shared.failed
    }

    /// As a body for one try.
    pub fn body(&self) -> Body {
        Body::replay(Self {
            shared: self.shared.clone(),
            position: 0,
        })
    }

    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let position = self.position;
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = shared.kept.get(position) {
            let frame = kept.clone().frame();
            self.position += 1;
            return Poll::Ready(Some(Ok(frame)));
        }
        if shared.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut shared.source).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => shared.keep(frame),
            Some(Err(_)) => shared.failed = true,
            None => shared.ended = true,
        }
        self.position = shared.kept.len();
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let shared = self.shared();
        self.position >= shared.kept.len() && (shared.ended || shared.source.is_end_stream())
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if self.too_large {
            return;
        }
        if let Some(data) = frame.data_ref() {
            self.size += data.len();
            if self.size > KEPT {
                self.too_large = true;
                self.kept = Vec::new();
                return;
            }
            self.kept.push(Kept::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.kept.push(Kept::Trailers(trailers.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;

    async fn read(replay: &Replay) -> Bytes {
        replay.body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_small_body_is_read_again_and_a_large_one_is_not() {
        let small = Replay::new(Body::full(Bytes::from_static(b"small")));
        assert_eq!(read(&small).await, "small");
        assert!(small.repeatable());
        assert_eq!(read(&small).await, "small");
        let large = Replay::new(Body::full(Bytes::from(vec![0; KEPT + 1])));
        assert_eq!(read(&large).await.len(), KEPT + 1);
        assert!(!large.repeatable());
    }
}
