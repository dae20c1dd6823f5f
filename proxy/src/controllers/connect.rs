//! One connection to a controller: TCP, TLS by the given settings, HTTP/2.

use crate::config::HostPort;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;

/// TCP and TLS together. A controller that takes longer is not worth waiting for while there are others.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// A controller that vanished without a word is noticed after interval plus timeout.
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(5);

/// TCP or TLS to a controller failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a connection to the controller at {controller}")]
pub struct DialError {
    /// Which one.
    controller: HostPort,
    source: io::Error,
}

/// A controller could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to the controller at {controller}")]
pub struct ConnectError {
    /// Which one.
    controller: HostPort,
    source: tonic::transport::Error,
}

/// Connects, or says why not. The channel is one connection; it does not connect again by itself to another controller.
pub async fn connect(
    controller: &HostPort,
    tls: Arc<ClientConfig>,
) -> Result<Channel, ConnectError> {
    let failed = |source| ConnectError {
        controller: controller.clone(),
        source,
    };
    let endpoint = Endpoint::from_shared(format!("https://{controller}"))
        .map_err(failed)?
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .http2_adaptive_window(true);
    let dial = Dial {
        controller: controller.clone(),
        tls: TlsConnector::from(tls),
    };
    endpoint.connect_with_connector(dial).await.map_err(failed)
}

/// Opens the connection for tonic, which calls again after the first one is lost.
struct Dial {
    controller: HostPort,
    tls: TlsConnector,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let (controller, tls) = (self.controller.clone(), self.tls.clone());
        Box::pin(async move { Ok(TokioIo::new(open(&controller, tls).await?)) })
    }
}

async fn open(controller: &HostPort, tls: TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(controller.host.clone());
    let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let stream = TcpStream::connect((controller.host.as_str(), controller.port)).await?;
    stream.set_nodelay(true)?;
    tls.connect(name, stream).await
}

/// Opens TCP and TLS alone, for whoever speaks HTTP/2 over it itself.
pub async fn dial(
    controller: &HostPort,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, DialError> {
    let opening = tokio::time::timeout(CONNECT_LIMIT, open(controller, tls.into()));
    let opened = opening.await.unwrap_or_else(|_| {
        let text = format!("no connection within {CONNECT_LIMIT:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    });
    opened.map_err(|source| DialError {
        controller: controller.clone(),
        source,
    })
}
