//! A client of the admin API over mutual TLS, by the certificate that `maille-controller init` made.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::Context;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Channel;
use xds_api::generated::maille::v1::admin_client::AdminClient;

/// The name in every controller's certificate.
const SERVER_NAME: &str = "maille-controller";
/// On one machine a connect takes milliseconds; under load of other tests it may take a second.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A call that takes longer hangs.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// A whole snapshot part or mesh.
const LARGEST_ANSWER: usize = 256 << 20;

/// What the tests call.
pub type Client = AdminClient<Channel>;

/// An administrator's certificate and the CA of the controllers.
#[derive(Debug, Clone)]
pub struct Credentials {
    tls: Arc<ClientConfig>,
    directory: PathBuf,
}

impl Credentials {
    /// Reads the directory that `maille-controller init` wrote.
    ///
    /// # Errors
    /// A file is missing or damaged.
    pub fn load(directory: &Path) -> anyhow::Result<Credentials> {
        let read = |name: &str| {
            std::fs::read(directory.join(name)).with_context(|| format!("reading {name}"))
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(&read("ca.crt")?)? {
            roots.add(root)?;
        }
        let key = PrivateKeyDer::from_pem_slice(&read("client.key")?)?;
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&read("client.crt")?)?, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Credentials {
            tls: Arc::new(tls),
            directory: directory.to_owned(),
        })
    }

    /// The directory, for the CLI's `--admin`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Connects to one controller.
    ///
    /// # Errors
    /// It cannot be reached, or the handshake fails.
    pub async fn connect(&self, address: std::net::SocketAddr) -> anyhow::Result<Client> {
        let channel = self.channel(address).await?;
        Ok(AdminClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
    }

    /// A connection to one controller's admin port, for whatever it serves.
    ///
    /// # Errors
    /// As [`Credentials::connect`].
    pub async fn channel(&self, address: std::net::SocketAddr) -> anyhow::Result<Channel> {
        let connector = Connector {
            tls: Arc::clone(&self.tls),
            address,
        };
        Channel::builder(Uri::from_static("http://maille-controller"))
            .connect_timeout(CONNECT_LIMIT)
            .timeout(CALL_LIMIT)
            .connect_with_connector(connector)
            .await
            .with_context(|| format!("connecting to the admin port {address}"))
    }
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    Ok(found?)
}

struct Connector {
    tls: Arc<ClientConfig>,
    address: std::net::SocketAddr,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (tls, address) = (Arc::clone(&self.tls), self.address);
        Box::pin(async move {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(SERVER_NAME).map_err(std::io::Error::other)?;
            TlsConnector::from(tls)
                .connect(name, tcp)
                .await
                .map(TokioIo::new)
        })
    }
}
