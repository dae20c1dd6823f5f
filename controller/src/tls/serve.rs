//! Serving HTTP/2 on accepted connections, each of which can be asked to leave while the others stay.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower_service::Service;
use tracing::debug;

use super::Connection;
use crate::supervise::Stage;

/// How long calls may go on once their connection was told to leave. Long-lived ones end by themselves at once; what is
/// still there then is a client that reads nothing.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// A connection's bounds.
#[derive(Debug, Clone, Copy)]
pub struct Http2 {
    /// A client that is gone without a word is found after this and the timeout.
    pub keepalive: Duration,
    /// How long a client may take to answer a ping.
    pub keepalive_timeout: Duration,
    /// Calls at once.
    pub streams: u32,
}

/// A handle on the connection that a call came by. Stands in the extensions of every request. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Link(CancellationToken);

impl Link {
    /// A connection that stays until this is cancelled, or it is told to leave.
    pub fn new(stopping: &CancellationToken) -> Self {
        Self(stopping.child_token())
    }

    /// Tells the client to go (GOAWAY). Calls that go on after a few seconds are cut off.
    pub fn leave(&self) {
        self.0.cancel();
    }

    /// Whether it was told to leave.
    pub fn is_leaving(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns once the connection was told to leave, or the server stops.
    pub async fn leaving(&self) {
        self.0.cancelled().await;
    }
}

/// Serves until the stage stops and every connection is gone. Requests carry the [`Caller`](super::Caller) and the [`Link`].
pub async fn serve<S, B>(
    stage: &Stage,
    mut connections: impl Stream<Item = io::Result<Connection>> + Unpin,
    bounds: Http2,
    service: S,
) where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stopping = stage.stopping();
    while let Some(connection) = connections.next().await {
        let Ok(connection) = connection else { continue };
        let link = Link::new(&stopping);
        let (caller, service) = (connection.caller().clone(), service.clone());
        let remote = caller.remote;
        let told = link.clone();
        let call = move |request: http::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(caller.clone());
            request.extensions_mut().insert(link.clone());
            service.clone().call(request)
        };
        let driving = http2::Builder::new(Tasks(stage.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(bounds.keepalive)
            .keep_alive_timeout(bounds.keepalive_timeout)
            .max_concurrent_streams(bounds.streams)
            .serve_connection(TokioIo::new(connection), service_fn(call));
        stage.task("connection", async move {
            let mut driving = pin!(driving);
            let ended = tokio::select! {
                ended = &mut driving => ended,
                () = told.leaving() => {
                    driving.as_mut().graceful_shutdown();
                    match tokio::time::timeout(LEAVE_LIMIT, driving).await {
                        Ok(ended) => ended,
                        Err(_) => {
                            debug!(?remote, "cuts a connection off that did not leave");
                            return;
                        }
                    }
                }
            };
            if let Err(failure) = ended {
                debug!(?remote, %failure, "a connection ended");
            }
        });
    }
}

/// Where hyper starts a connection's calls: under the stage, like every other task.
#[derive(Debug, Clone)]
struct Tasks(Stage);

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.0.task("call", call);
    }
}
