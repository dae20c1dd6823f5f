//! Mutual TLS between proxies: TLS 1.3 only, both sides prove SPIFFE ids, a client demands the one of its endpoint.

mod verify;

pub use verify::peer_identity;

use crate::identity::ExpectIdentity;
use crate::policy::PeerIdentity;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ProducesTickets;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, CommonState, HandshakeKind, RootCertStore, ServerConfig};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use verify::ClientVerifier;

/// ALPN of the native wire.
pub const MAILLE_1: &[u8] = b"maille/1";
/// What a handshake may take at the accepting side. A busy machine and a slow link take a second, nobody takes ten.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Sessions kept for one endpoint: tickets are used once, and few connections are opened to one endpoint.
const SESSIONS: usize = 4;
/// A connection carries many streams, so a record holds as much as TLS allows.
const TLS_BUFFER: usize = 64 * 1024;
/// Read at once from the socket: TLS itself asks for 4 KiB at a time, a quarter of a record.
const READ_AHEAD: usize = 32 * 1024;

/// What TLS runs on.
pub type Socket = BufReader<TcpStream>;

/// Why there is no TLS.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// The certificate or the key cannot be used.
    #[error("this workload's certificate cannot be used")]
    Certificate(#[source] rustls::Error),
    /// The handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
    /// It took too long.
    #[error("no TLS handshake within {0:?}")]
    TimedOut(Duration),
    /// A resumed session whose certificate has ended meanwhile, or whose peer cannot be told.
    #[error("the peer's certificate does not hold: {0}")]
    Peer(String),
    /// It speaks something else.
    #[error("the peer does not speak maille/1")]
    Protocol,
}

/// This workload's certificate and what it trusts, ready for handshakes. Made anew when either changes.
#[derive(Debug)]
pub struct Mesh {
    identity: PeerIdentity,
    server: Arc<ServerConfig>,
    certificate: Arc<SingleCertAndKey>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl Mesh {
    /// `chain`: the leaf first. `roots`: those of this workload's trust domain.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
        roots: RootCertStore,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let leaf = chain.first().ok_or(TlsError::Certificate(
            rustls::Error::NoCertificatesPresented,
        ))?;
        let identity = peer_identity(leaf).map_err(TlsError::Certificate)?;
        let key = provider
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(TlsError::Certificate)?;
        let certificate = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        let roots = Arc::new(roots);
        let verifier = ClientVerifier::new(roots.clone(), &provider, &identity);
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Certificate)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(certificate.clone());
        server.alpn_protocols = vec![MAILLE_1.to_vec()];
        server.ticketer = ticketer()?;
        Ok(Self {
            identity,
            server: Arc::new(server),
            certificate,
            roots,
            provider,
        })
    }

    /// Who this workload is.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// A configuration for one endpoint: it demands `expected`, and keeps that endpoint's sessions.
    pub fn client(&self, expected: &Arc<str>) -> Result<Arc<ClientConfig>, TlsError> {
        let (roots, expected) = (self.roots.clone(), expected.clone());
        let verifier = ExpectIdentity::new(roots, expected, &self.provider);
        let mut client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Certificate)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.certificate.clone());
        client.alpn_protocols = vec![MAILLE_1.to_vec()];
        client.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Arc::new(client))
    }

    /// The accepting side of a handshake: who called.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(tokio_rustls::server::TlsStream<Socket>, PeerIdentity), TlsError> {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.server.clone());
        let handshake = acceptor.accept_with(buffered(stream), |state| {
            state.set_buffer_limit(Some(TLS_BUFFER))
        });
        let tls = within(HANDSHAKE_LIMIT, handshake).await?;
        let peer = checked(tls.get_ref().1)?;
        Ok((tls, peer))
    }
}

/// Tickets that only this configuration can read: they end with the certificate and the roots they were made under.
fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::Certificate)
}

/// The calling side of a handshake. `port` is the target port that SNI names.
pub async fn connect(
    client: Arc<ClientConfig>,
    port: u16,
    stream: TcpStream,
    limit: Duration,
) -> Result<tokio_rustls::client::TlsStream<Socket>, TlsError> {
    let name = ServerName::try_from(format!("{port}.maille"))
        .expect("a number and `.maille` are a valid host name");
    let connector = tokio_rustls::TlsConnector::from(client);
    let handshake = connector.connect_with(name, buffered(stream), |state| {
        state.set_buffer_limit(Some(TLS_BUFFER))
    });
    let tls = within(limit, handshake).await?;
    checked(tls.get_ref().1)?;
    Ok(tls)
}

fn buffered(stream: TcpStream) -> Socket {
    BufReader::with_capacity(READ_AHEAD, stream)
}

/// Whether the session was resumed.
pub fn resumed(state: &CommonState) -> bool {
    state.handshake_kind() == Some(HandshakeKind::Resumed)
}

/// How long the peer's certificate is still good for: no connection should outlive it.
pub fn valid_for(state: &CommonState) -> Duration {
    let leaf = state.peer_certificates().and_then(<[_]>::first);
    leaf.map_or(Duration::ZERO, |leaf| {
        verify::rest_of_life(leaf, UnixTime::now())
    })
}

async fn within<T>(
    limit: Duration,
    handshake: impl Future<Output = std::io::Result<T>>,
) -> Result<T, TlsError> {
    match tokio::time::timeout(limit, handshake).await {
        Err(_) => Err(TlsError::TimedOut(limit)),
        Ok(Err(error)) => Err(TlsError::Handshake(error.to_string())),
        Ok(Ok(stream)) => Ok(stream),
    }
}

/// What holds for full and resumed sessions alike: the protocol, the peer, and that its certificate has not ended.
/// A resumed session is not verified again by TLS itself.
fn checked(state: &CommonState) -> Result<PeerIdentity, TlsError> {
    if state.alpn_protocol() != Some(MAILLE_1) {
        return Err(TlsError::Protocol);
    }
    let leaf = state.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or_else(|| TlsError::Peer("there is none".to_owned()))?;
    if resumed(state) {
        verify::not_ended(leaf, UnixTime::now()).map_err(TlsError::Peer)?;
    }
    peer_identity(leaf).map_err(|error| TlsError::Peer(error.to_string()))
}

#[cfg(test)]
mod tests;
