//! One body type for everything that is carried, so that nothing is boxed on the way.

use super::application::CheckIn;
use super::replay::Replay;
use super::upgrade::UpgradedRead;
use super::watch::Watch;
use crate::wire::{Receive, StreamLease};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// On an HTTP/1 connection.
    #[error("the HTTP/1 message broke off")]
    Http1(#[from] hyper::Error),
    /// On an HTTP/2 stream.
    #[error("the HTTP/2 stream broke off")]
    Http2(#[from] h2::Error),
    /// On an upgraded connection.
    #[error("the upgraded connection broke off")]
    Upgraded(#[from] std::io::Error),
    /// The route's time is over.
    #[error("the route's timeout ended the response")]
    TimedOut,
}

/// A body, and what watches over it until its end.
#[derive(Debug)]
pub struct Body {
    source: Source,
    watch: Option<Box<Watch>>,
}

#[derive(Debug)]
enum Source {
    Empty,
    Full(Bytes),
    Http1 {
        incoming: hyper::body::Incoming,
        /// The connection that it comes on, to be used again.
        connection: Option<Box<CheckIn>>,
        ended: bool,
    },
    Http2 {
        receive: Receive,
        /// The count of the stream, where this proxy opened it.
        _lease: Option<StreamLease>,
    },
    Upgraded(UpgradedRead),
    Replay(Replay),
}

impl Body {
    /// Nothing.
    pub fn empty() -> Self {
        Source::Empty.into()
    }

    /// These bytes.
    pub fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::empty()
        } else {
            Source::Full(bytes).into()
        }
    }

    /// What comes on an HTTP/2 stream.
    pub fn http2(stream: h2::RecvStream) -> Self {
        Self::of_stream(stream, None)
    }

    /// What comes on a stream that this proxy opened.
    pub(super) fn http2_of(stream: h2::RecvStream, lease: StreamLease) -> Self {
        Self::of_stream(stream, Some(lease))
    }

    fn of_stream(stream: h2::RecvStream, lease: Option<StreamLease>) -> Self {
        if stream.is_end_stream() {
            return Self::empty();
        }
        Source::Http2 {
            receive: Receive::new(stream),
            _lease: lease,
        }
        .into()
    }

    /// What comes on an HTTP/1 connection that a client opened.
    pub fn http1(incoming: hyper::body::Incoming) -> Self {
        if http_body::Body::is_end_stream(&incoming) {
            return Self::empty();
        }
        Source::Http1 {
            incoming,
            connection: None,
            ended: false,
        }
        .into()
    }

    /// What comes on an HTTP/1 connection that this proxy opened and keeps.
    pub(super) fn http1_of(incoming: hyper::body::Incoming, connection: CheckIn) -> Self {
        if http_body::Body::is_end_stream(&incoming) {
            connection.done();
            return Self::empty();
        }
        Source::Http1 {
            incoming,
            connection: Some(Box::new(connection)),
            ended: false,
        }
        .into()
    }

    pub(super) fn upgraded(read: UpgradedRead) -> Self {
        Source::Upgraded(read).into()
    }

    pub(super) fn replay(replay: Replay) -> Self {
        Source::Replay(replay).into()
    }

    /// Watched over by `watch` until its end.
    pub fn watched(mut self, watch: Watch) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match &mut self.source {
            Source::Empty => None,
            Source::Full(_) => match std::mem::replace(&mut self.source, Source::Empty) {
                Source::Full(bytes) => Some(Ok(Frame::data(bytes))),
                _ => None,
            },
            Source::Http1 {
                incoming, ended, ..
            } => {
                let frame = ready!(Pin::new(incoming).poll_frame(context));
                *ended = frame.is_none();
                frame.map(|frame| frame.map_err(BodyError::Http1))
            }
            Source::Http2 { receive, .. } => {
                let frame = ready!(Pin::new(receive).poll_frame(context));
                frame.map(|frame| frame.map_err(BodyError::Http2))
            }
            Source::Upgraded(read) => {
                let bytes = ready!(read.poll_bytes(context)).transpose();
                bytes.map(|bytes| bytes.map(Frame::data).map_err(BodyError::Upgraded))
            }
            Source::Replay(replay) => ready!(replay.poll_frame(context)),
        })
    }
}

impl From<Source> for Body {
    fn from(source: Source) -> Self {
        Self {
            source,
            watch: None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(watch) = &mut self.watch
            && watch.poll_deadline(context)
        {
            return Poll::Ready(Some(Err(BodyError::TimedOut)));
        }
        let frame = ready!(self.poll_source(context));
        if let Some(watch) = &mut self.watch {
            watch.saw(frame.as_ref());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(bytes) => bytes.is_empty(),
            Source::Http1 {
                incoming, ended, ..
            } => *ended || incoming.is_end_stream(),
            Source::Http2 { receive, .. } => receive.is_end_stream(),
            Source::Upgraded(_) => false,
            Source::Replay(replay) => replay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Http1 { incoming, .. } => incoming.size_hint(),
            Source::Http2 { receive, .. } => receive.size_hint(),
            Source::Upgraded(_) | Source::Replay(_) => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Source::Http1 {
            incoming,
            connection,
            ended,
        } = &mut self.source
            && (*ended || http_body::Body::is_end_stream(incoming))
            && let Some(connection) = connection.take()
        {
            connection.done();
        }
    }
}
