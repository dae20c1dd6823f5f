//! The agent over its socket, as an Envoy or a gRPC program reaches it.
#![allow(clippy::unwrap_used)]

mod relay;
mod secrets;

use super::{Relay, Settings, Socket, start};
use crate::config::HostPort;
use crate::controllers::Controllers;
use crate::fakes::{Authority, spiffe};
use crate::identity::{Credentials, Identity};
use crate::metrics::Metrics;
use crate::supervise::{Readiness, Tasks, tasks};
use ::http::Uri;
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

/// An agent, and the authority that its certificates come from.
struct World {
    authority: Authority,
    credentials: watch::Sender<Option<Arc<Credentials>>>,
    readiness: Readiness,
    metrics: Metrics,
    tasks: Tasks,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl World {
    /// Without a certificate yet.
    fn new(authority: Authority, controllers: Vec<HostPort>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let (credentials, receiver) = watch::channel(None);
        let identity = Identity::for_test(receiver);
        let (tasks, _) = tasks();
        let (readiness, metrics) = (Readiness::default(), Metrics::new());
        let controllers = Controllers::new(controllers);
        let settings = Settings {
            socket: Socket::bind(&path).unwrap(),
            relay: Relay::new(controllers, identity.clone(), &metrics, &tasks),
            identity,
            files: None,
        };
        let (served, written) = (readiness.wait_for("socket"), readiness.wait_for("files"));
        start(settings, served, written, &tasks);
        Self {
            authority,
            credentials,
            readiness,
            metrics,
            tasks,
            path,
            _directory: directory,
        }
    }

    /// Puts a new certificate with a new key in force.
    fn certify(&self) -> Arc<Credentials> {
        let credentials = self.authority.credentials(&spiffe("shop", "web"));
        self.credentials.send_replace(Some(credentials.clone()));
        credentials
    }

    /// A connection to the socket.
    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_static("http://agent");
        let dial = Dial(self.path.clone());
        endpoint.connect_with_connector(dial).await.unwrap()
    }
}

/// Connects to the socket, whatever the address says.
struct Dial(PathBuf);

impl Service<Uri> for Dial {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let connecting = UnixStream::connect(self.0.clone());
        Box::pin(async move { connecting.await.map(TokioIo::new) })
    }
}

#[tokio::test]
async fn the_socket_is_there_as_long_as_the_agent() {
    let world = World::new(Authority::new(), Vec::new());
    world.channel().await;
    assert!(world.readiness.missing().is_empty());
    world.tasks.stop().await;
    assert!(!world.path.exists());
}
