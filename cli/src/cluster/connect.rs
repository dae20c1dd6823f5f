//! One connection to one controller: a Unix socket, or mutual TLS over TCP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::Channel;

use super::Endpoint;

/// A controller in the same building answers in milliseconds; one across an ocean within this. Then the next is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// The name in every controller's certificate, whatever address it is reached by.
const SERVER_NAME: &str = "maille-controller";

/// Connects, handshake included.
pub(super) async fn channel(endpoint: &Endpoint) -> Result<Channel, Status> {
    // The URI only fills `:authority`; the connector below knows where to go.
    let uri = Uri::from_static("http://maille-controller");
    let connector = Connector {
        endpoint: endpoint.clone(),
    };
    Channel::builder(uri)
        .connect_timeout(CONNECT_LIMIT)
        .connect_with_connector(connector)
        .await
        .map_err(|error| {
            Status::unavailable(format!(
                "{endpoint} is not reachable: {}",
                root_cause(&error)
            ))
        })
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

struct Connector {
    endpoint: Endpoint,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let endpoint = self.endpoint.clone();
        Box::pin(async move { open(&endpoint).await.map(TokioIo::new) })
    }
}

async fn open(endpoint: &Endpoint) -> std::io::Result<Stream> {
    match endpoint {
        Endpoint::Socket(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        Endpoint::Address(address, credentials) => {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(SERVER_NAME)
                .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
            let tls = TlsConnector::from(Arc::clone(credentials.tls()))
                .connect(name, tcp)
                .await?;
            Ok(Stream::Tls(Box::new(tls)))
        }
    }
}

enum Stream {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
