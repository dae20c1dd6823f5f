//! The receiving half of a stream as an HTTP body: what is taken gives the sender its window back.

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Data, then trailers.
#[derive(Debug)]
pub struct Receive {
    stream: RecvStream,
    data_ended: bool,
}

impl Receive {
    /// Of a stream.
    pub fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            data_ended: false,
        }
    }

    /// The next data. None: the sender has ended its half.
    pub fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let Some(data) = ready!(self.stream.poll_data(context)) else {
            return Poll::Ready(None);
        };
        let data = data?;
        self.stream.flow_control().release_capacity(data.len())?;
        Poll::Ready(Some(Ok(data)))
    }
}

impl Body for Receive {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.poll_bytes(context)) {
                Some(data) => return Poll::Ready(Some(data.map(Frame::data))),
                None => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(context)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            SizeHint::with_exact(0)
        } else {
            SizeHint::default()
        }
    }
}
