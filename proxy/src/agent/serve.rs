//! What comes in at the socket: connections, and which service each call is for.

use super::executor::Supervised;
use super::files::Files;
use super::relay::{Relay, STREAM_WINDOW, WINDOW};
use super::secrets::Secrets;
use super::socket::Socket;
use crate::identity::Identity;
use crate::supervise::{Pending, Tasks};
use ::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;
use tracing::{debug, info, warn};
use xds_api::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;

/// Connections at once. One program opens one for each of its worker threads that has a stream.
const CONNECTIONS: usize = 64;
/// Streams at once on one connection: one for each secret, and those that are relayed.
const STREAMS: u32 = 256;
const SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/";

/// What the agent is made of.
#[derive(Debug)]
pub struct Settings {
    /// Where it is reached.
    pub socket: Socket,
    /// Whose certificate is served.
    pub identity: Identity,
    /// Who answers the rest.
    pub relay: Relay,
    /// Where the certificate is kept as files, too.
    pub files: Option<Files>,
}

/// Starts serving. `served` is dropped once connections are accepted, `written` once the files are there, if they are wanted.
pub fn start(settings: Settings, served: Pending, written: Pending, tasks: &Tasks) {
    let Settings {
        socket,
        identity,
        relay,
        files,
    } = settings;
    let credentials = identity.credentials();
    match files {
        Some(files) => until_stopped(
            "agent files",
            files.keep(credentials.clone(), written),
            tasks,
        ),
        None => drop(written),
    }
    until_stopped("agent renewals", relay.clone().follow_renewals(), tasks);
    let front = Front {
        secrets: SecretDiscoveryServiceServer::new(Secrets::new(credentials)),
        relay,
    };
    info!(path = %socket.path().display(), "serving the agent's socket");
    tasks.vital("agent socket", serve(socket, front, served, tasks.clone()));
}

fn until_stopped(
    task: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
    tasks: &Tasks,
) {
    let stopping = tasks.stopping();
    tasks.vital(task, async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = work => {}
        }
    });
}

async fn serve(socket: Socket, front: Front, served: Pending, tasks: Tasks) {
    let stopping = tasks.stopping();
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    drop(served);
    loop {
        let stream = tokio::select! {
            () = stopping.cancelled() => return,
            stream = socket.accept() => stream,
        };
        // At the limit the newcomer is closed: it comes again.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            warn!(
                limit = CONNECTIONS,
                "too many connections to the agent's socket"
            );
            continue;
        };
        let (front, stopping, inner) = (front.clone(), stopping.clone(), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = connection(stream, front, inner) => {}
            }
            drop(permit);
        });
    }
}

async fn connection(stream: UnixStream, front: Front, tasks: Tasks) {
    let service = service_fn(move |request| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(request).await) }
    });
    let serving = http2::Builder::new(Supervised(tasks))
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        debug!(%error, "a connection to the agent's socket has ended");
    }
}

/// Which service a call is for.
#[derive(Debug, Clone)]
struct Front {
    secrets: SecretDiscoveryServiceServer<Secrets>,
    relay: Relay,
}

impl Front {
    async fn answer(mut self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        if path.starts_with(SECRETS) {
            return match self.secrets.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
        }
        if Relay::takes(path) {
            return self.relay.pass(request).await;
        }
        let text = format!("{path}: the agent serves SDS, and passes on ADS and load reports");
        Status::unimplemented(text).into_http()
    }
}
