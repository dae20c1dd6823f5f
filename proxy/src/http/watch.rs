//! What is held and counted until an exchange has ended, whichever way it ends.

use super::body::BodyError;
use super::retry::grpc_status;
use crate::metrics::{Flight, RequestMetrics, is_failure};
use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use tokio::time::{Instant, Sleep};

/// Counts the exchange when it is dropped with the response's body.
#[derive(Debug)]
pub struct Watch {
    metrics: Arc<RequestMetrics>,
    status: StatusCode,
    grpc: bool,
    grpc_status: Option<u32>,
    started: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
    /// The try that was answered.
    flight: Option<Flight>,
    /// Leases and permits, given back at the end.
    _held: Option<Box<dyn Any + Send>>,
}

impl Watch {
    /// Over a response whose request came at `started`.
    pub fn new<B>(
        metrics: Arc<RequestMetrics>,
        response: &http::Response<B>,
        grpc: bool,
        started: Instant,
    ) -> Self {
        Self {
            metrics,
            status: response.status(),
            grpc,
            grpc_status: grpc.then(|| grpc_status(response.headers())).flatten(),
            started,
            deadline: None,
            flight: None,
            _held: None,
        }
    }

    /// The body must have ended by then.
    pub fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        self
    }

    /// Counts the try that was answered with it.
    pub fn counting(mut self, flight: Flight) -> Self {
        self.flight = Some(flight);
        self
    }

    /// Keeps `held` until the end.
    pub fn holding(mut self, held: impl Any + Send) -> Self {
        self._held = Some(Box::new(held));
        self
    }

    /// Whether the time is over.
    pub(super) fn poll_deadline(&mut self, context: &mut Context<'_>) -> bool {
        self.deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(context).is_ready())
    }

    /// Looks at what the body brought.
    pub(super) fn saw(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        match frame {
            Some(Ok(frame)) if self.grpc => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.grpc_status = grpc_status(trailers);
                }
            }
            Some(Ok(_)) | None => {}
            Some(Err(_)) => self.fail(),
        }
    }

    fn fail(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.failed();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.metrics.finished(self.status, self.started.elapsed());
        if self.grpc_status.is_some_and(is_failure) {
            self.fail();
        }
        if self.grpc {
            // Without a status the call was cut off: UNKNOWN, as gRPC clients see it.
            self.metrics.grpc(self.grpc_status.unwrap_or(2));
        }
    }
}
