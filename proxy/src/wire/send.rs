//! Sends an HTTP body on a stream, as fast as its window takes it.

use bytes::{Buf, Bytes};
use h2::{Reason, SendStream};
use http_body::Body;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A first piece up to this size is sent at once; the window of a fresh stream takes it.
const AT_ONCE: usize = 16 * 1024;

/// Why a body was not sent whole.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The peer has no use for the rest.
    #[error("the stream was reset: {0}")]
    Reset(Reason),
    /// The stream or its connection is gone.
    #[error("the stream failed: {0}")]
    Stream(#[from] h2::Error),
    /// The body itself ended early; the peer was told by a reset.
    #[error("the body ended early: {0}")]
    Body(String),
}

/// Under way. Can be moved while it is, so that a task can take over what a request began.
#[derive(Debug)]
pub struct Send<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// Waits for the window.
    rest: Bytes,
    last: bool,
    fresh: bool,
    done: bool,
}

impl<B> Send<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// Sends all of `body`.
    pub fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self {
            stream,
            body,
            rest: Bytes::new(),
            last: false,
            fresh: true,
            done: false,
        }
    }

    /// Whether all is sent.
    pub fn done(&self) -> bool {
        self.done
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        while self.rest.has_remaining() {
            self.stream.reserve_capacity(self.rest.len());
            let capacity = match ready!(self.stream.poll_capacity(context)) {
                Some(capacity) => capacity?,
                None => return Poll::Ready(Err(SendError::Reset(Reason::CANCEL))),
            };
            let piece = self.rest.split_to(capacity.min(self.rest.len()));
            let last = self.last && self.rest.is_empty();
            self.stream.send_data(piece, last)?;
            self.done = last;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next frame; true where that was all.
    fn take(
        &mut self,
        frame: Option<Result<http_body::Frame<Bytes>, B::Error>>,
    ) -> Result<bool, SendError> {
        let frame = match frame {
            None => {
                self.stream.send_data(Bytes::new(), true)?;
                return Ok(true);
            }
            Some(Err(error)) => {
                self.stream.send_reset(Reason::CANCEL);
                return Err(SendError::Body(error.to_string()));
            }
            Some(Ok(frame)) => frame,
        };
        let frame = match frame.into_trailers() {
            Ok(trailers) => {
                self.stream.send_trailers(trailers)?;
                return Ok(true);
            }
            Err(frame) => frame,
        };
        let Ok(data) = frame.into_data() else {
            return Ok(false);
        };
        let last = self.body.is_end_stream();
        if std::mem::take(&mut self.fresh) && data.len() <= AT_ONCE {
            self.stream.send_data(data, last)?;
            return Ok(last);
        }
        if data.is_empty() && last {
            self.stream.send_data(data, true)?;
            return Ok(true);
        }
        self.rest = data;
        self.last = last;
        Ok(false)
    }
}

impl<B> Future for Send<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            ready!(this.poll_rest(context))?;
            if this.done {
                return Poll::Ready(Ok(()));
            }
            let frame = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    // A peer that wants no more must not have to wait until the body goes on.
                    let reason = ready!(this.stream.poll_reset(context))?;
                    return Poll::Ready(Err(SendError::Reset(reason)));
                }
            };
            this.done = this.take(frame)?;
        }
    }
}
