//! An answer on its way back. Where its controller goes away it ends with a gRPC status that says so, so that the client
//! opens its stream again and comes to another controller.

use ::http::{HeaderMap, Response};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// Where gRPC says how a call has ended.
const GRPC_STATUS: &str = "grpc-status";

/// A body that is passed on frame by frame, in the client's pace.
pub(super) struct Relayed {
    body: Incoming,
    /// Whether the call's status has been passed on.
    told: bool,
    over: bool,
    /// What is said where the controller says nothing.
    why: String,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The call counts as long as this lives.
    _permit: OwnedSemaphorePermit,
}

impl Relayed {
    /// The controller's answer, watched: once `ended` is cancelled it is over, and `why` is the reason.
    pub(super) fn answer(
        response: Response<Incoming>,
        ended: CancellationToken,
        why: String,
        permit: OwnedSemaphorePermit,
    ) -> Response<tonic::body::Body> {
        let told = response.headers().contains_key(GRPC_STATUS);
        let relayed = |body| Self {
            body,
            told,
            over: false,
            why,
            ended: Box::pin(ended.cancelled_owned()),
            _permit: permit,
        };
        response.map(|body| tonic::body::Body::new(relayed(body)))
    }

    /// The end, once: with a status if there was none yet.
    fn end(&mut self) -> Option<Frame<Bytes>> {
        let silent = !std::mem::replace(&mut self.over, true) && !self.told;
        silent.then(|| Frame::trailers(unavailable(&self.why)))
    }
}

fn unavailable(why: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let status = Status::unavailable(why);
    if status.add_header(&mut trailers).is_err() {
        // The reason holds something that no header can; the code alone says enough.
        trailers.insert(GRPC_STATUS, (tonic::Code::Unavailable as i32).into());
    }
    trailers
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        // What has come is passed on before the end is told.
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() {
            ready!(self.ended.as_mut().poll(context));
            return Poll::Ready(self.end().map(Ok));
        }
        match ready!(polled) {
            Some(Ok(frame)) => {
                self.told |= frame.is_trailers();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) | None => Poll::Ready(self.end().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || (self.told && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.told {
            true => self.body.size_hint(),
            false => SizeHint::default(),
        }
    }
}
