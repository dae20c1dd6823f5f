//! Certificates of a test's own: by a join token from the identity service, as every sidecar gets its own.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use anyhow::Context;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use xds_api::generated::maille::v1::identity_client::IdentityClient;
use xds_api::generated::maille::v1::{CertifyRequest, CertifyResponse};

use crate::cluster::Cluster;

/// Somebody with a certificate and without a sidecar.
#[derive(Debug)]
pub struct Caller {
    /// Its service account.
    pub account: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// A caller's file.
#[derive(Deserialize)]
struct Kept {
    account: String,
    chain: Vec<String>,
    key: String,
}

impl Caller {
    /// A TLS connection with its certificate. The server's is not looked at: the test started it.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn connect(
        &self,
        server: SocketAddr,
        name: &str,
        alpn: &[u8],
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        secure(server, self.tls(alpn)?, name.to_owned())
            .await
            .with_context(|| format!("{} calls {server}", self.account))
    }

    /// Keeps certificate and key in a file, for a process of its own.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, file: &Path) -> anyhow::Result<()> {
        let der = |one: &CertificateDer<'static>| BASE64_STANDARD.encode(one);
        let chain: Vec<String> = self.chain.iter().map(der).collect();
        let key = BASE64_STANDARD.encode(self.key.secret_der());
        let kept = json!({"account": self.account, "chain": chain, "key": key});
        std::fs::write(file, kept.to_string()).context("keeping a certificate")
    }

    /// Takes them from there.
    ///
    /// # Errors
    /// It is no such file.
    pub fn load(file: &Path) -> anyhow::Result<Caller> {
        let kept: Kept = serde_json::from_slice(&std::fs::read(file)?)?;
        let chain = kept.chain.iter().map(|one| {
            let der = BASE64_STANDARD.decode(one)?;
            anyhow::Ok(CertificateDer::from(der))
        });
        let key = BASE64_STANDARD.decode(kept.key)?;
        Ok(Caller {
            account: kept.account,
            chain: chain.collect::<anyhow::Result<_>>()?,
            key: PrivateKeyDer::try_from(key).map_err(anyhow::Error::msg)?,
        })
    }

    /// TLS with its certificate, for several connections. Each costs the server a whole handshake, as one that has never been there does.
    ///
    /// # Errors
    /// Key and certificate do not fit together.
    pub fn tls(&self, alpn: &[u8]) -> anyhow::Result<Arc<ClientConfig>> {
        config(Some((self.chain.clone(), self.key.clone_key())), alpn)
    }
}

/// A certificate of a service account, for a workload of its name.
///
/// # Errors
/// The cluster refuses it.
pub async fn obtain(cluster: &Cluster, namespace: &str, account: &str) -> anyhow::Result<Caller> {
    let join_token = cluster.token(namespace, account).await?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let csr = CertificateParams::default().serialize_request(&key)?;
    let server = cluster.controllers[0].address("xds");
    let request = CertifyRequest {
        csr: csr.der().to_vec().into(),
        join_token,
        workload: format!("{namespace}/{account}"),
        service_account_token: String::new(),
    };
    let answer = certify(server, request).await?.context("certifying")?;
    let chain = answer.chain.into_iter();
    Ok(Caller {
        account: account.to_owned(),
        chain: chain
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect(),
        key: PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?,
    })
}

/// What a controller answers to a request for a certificate, or why it refuses.
///
/// # Errors
/// It cannot be reached.
pub async fn certify(
    server: SocketAddr,
    request: CertifyRequest,
) -> anyhow::Result<Result<CertifyResponse, Status>> {
    let channel = channel(config(None, b"h2")?, server).await?;
    let answer = IdentityClient::new(channel).certify(request).await;
    Ok(answer.map(tonic::Response::into_inner))
}

/// A channel over one TLS connection to a controller.
///
/// # Errors
/// It cannot be reached, or refuses.
pub async fn channel(tls: Arc<ClientConfig>, server: SocketAddr) -> anyhow::Result<Channel> {
    Endpoint::from_static("http://maille-controller")
        .connect_with_connector(Connector { tls, server })
        .await
        .with_context(|| format!("connecting to {server}"))
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn config(own: Option<Own>, alpn: &[u8]) -> anyhow::Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// A TLS connection to a controller, with nothing said on it.
///
/// # Errors
/// It cannot be reached, or refuses.
pub async fn secure(
    server: SocketAddr,
    tls: Arc<ClientConfig>,
    name: String,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(server).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
    TlsConnector::from(tls).connect(name, tcp).await
}

struct Connector {
    tls: Arc<ClientConfig>,
    server: SocketAddr,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let secured = secure(
            self.server,
            Arc::clone(&self.tls),
            "maille-controller".to_owned(),
        );
        Box::pin(async move { secured.await.map(TokioIo::new) })
    }
}

/// Who the server is, is not what these tests ask; and a bench's thousand verifications would only take CPU from it.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
