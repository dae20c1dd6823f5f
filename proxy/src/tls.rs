//! Mutual TLS between proxies: TLS 1.3 only, both sides prove SPIFFE ids, a client demands the one of its endpoint.

mod verify;

pub use verify::peer_identity;

use crate::identity::ExpectIdentity;
use crate::policy::PeerIdentity;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{Acceptor, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, CommonState, HandshakeKind, RootCertStore, ServerConfig};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use verify::ClientVerifier;

/// What is spoken over a connection, as ALPN names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `maille/1`: native to native.
    Native,
    /// Plain HTTP/2 of an Envoy or a gRPC program. The target port stands in SNI.
    Http2,
    /// Plain HTTP/1 of an Envoy.
    Http1,
    /// The bytes of one opaque connection.
    Opaque,
}

impl Form {
    /// Every form, the best first.
    const ALL: [Self; 4] = [Self::Native, Self::Http2, Self::Http1, Self::Opaque];

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Native => b"maille/1",
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
            Self::Opaque => b"maille-tcp",
        }
    }

    fn of(state: &CommonState) -> Option<Self> {
        let agreed = state.alpn_protocol()?;
        Self::ALL.into_iter().find(|form| form.alpn() == agreed)
    }
}

/// What SNI ends with; before it stands the target port.
const SNI: &str = ".maille";
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
    #[error("the peer does not speak the protocol that was asked for")]
    Protocol,
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// What it runs on.
    pub tls: tokio_rustls::server::TlsStream<Socket>,
    /// Who called.
    pub peer: PeerIdentity,
    /// What is spoken.
    pub form: Form,
    /// The target port that SNI names. None: it names none; then only the native form can say.
    pub port: Option<u16>,
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
        server.alpn_protocols = Form::ALL.map(|form| form.alpn().to_vec()).into();
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

    /// A configuration for one endpoint: it demands `expected`, speaks `form` alone, and keeps that endpoint's sessions.
    pub fn client(&self, expected: &Arc<str>, form: Form) -> Result<Arc<ClientConfig>, TlsError> {
        let (roots, expected) = (self.roots.clone(), expected.clone());
        let verifier = ExpectIdentity::new(roots, expected, &self.provider);
        let mut client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Certificate)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.certificate.clone());
        client.alpn_protocols = vec![form.alpn().to_vec()];
        client.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Arc::new(client))
    }

    /// The accepting side of a handshake: who called, for which port, and how it speaks.
    pub async fn accept(&self, stream: TcpStream) -> Result<Accepted, TlsError> {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.server.clone());
        let handshake = acceptor.accept_with(buffered(stream), |state| {
            state.set_buffer_limit(Some(TLS_BUFFER))
        });
        accepted(within(HANDSHAKE_LIMIT, handshake).await?)
    }

    /// The same for a peer whose first words have been read.
    pub async fn answer(&self, greeting: Greeting) -> Result<Accepted, TlsError> {
        let config = self.server.clone();
        let handshake = greeting
            .start
            .into_stream_with(config, |state| state.set_buffer_limit(Some(TLS_BUFFER)));
        accepted(within(HANDSHAKE_LIMIT, handshake).await?)
    }
}

fn accepted(tls: tokio_rustls::server::TlsStream<Socket>) -> Result<Accepted, TlsError> {
    let state = tls.get_ref().1;
    let form = Form::of(state).ok_or(TlsError::Protocol)?;
    let (peer, port) = (checked(state)?, state.server_name().and_then(target));
    Ok(Accepted {
        tls,
        peer,
        form,
        port,
    })
}

/// What a peer has said before it was answered: for which port it comes, so that the certificate can be chosen.
pub struct Greeting {
    start: StartHandshake<Socket>,
    /// The target port that SNI names.
    pub port: Option<u16>,
}

impl std::fmt::Debug for Greeting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Greeting")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Reads what a peer says first.
pub async fn greeted(stream: TcpStream) -> Result<Greeting, TlsError> {
    let reading = LazyConfigAcceptor::new(Acceptor::default(), buffered(stream));
    let start = within(HANDSHAKE_LIMIT, reading).await?;
    let port = start.client_hello().server_name().and_then(target);
    Ok(Greeting { start, port })
}

/// The port in `8080.maille`.
fn target(name: &str) -> Option<u16> {
    let port: u16 = name.strip_suffix(SNI)?.parse().ok()?;
    (port > 0).then_some(port)
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
    let name = ServerName::try_from(format!("{port}{SNI}"))
        .expect("a number and `.maille` are a valid host name");
    let asked = client.alpn_protocols.clone();
    let connector = tokio_rustls::TlsConnector::from(client);
    let handshake = connector.connect_with(name, buffered(stream), |state| {
        state.set_buffer_limit(Some(TLS_BUFFER))
    });
    let tls = within(limit, handshake).await?;
    let state = tls.get_ref().1;
    // A server that knows no ALPN agrees to nothing, and would be spoken to in a form that nobody has named.
    if !asked
        .iter()
        .any(|asked| state.alpn_protocol() == Some(asked))
    {
        return Err(TlsError::Protocol);
    }
    checked(state)?;
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

/// What holds for full and resumed sessions alike: the peer, and that its certificate has not ended. A resumed session is
/// not verified again by TLS itself.
fn checked(state: &CommonState) -> Result<PeerIdentity, TlsError> {
    let leaf = state.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or_else(|| TlsError::Peer("there is none".to_owned()))?;
    if resumed(state) {
        verify::not_ended(leaf, UnixTime::now()).map_err(TlsError::Peer)?;
    }
    peer_identity(leaf).map_err(|error| TlsError::Peer(error.to_string()))
}

#[cfg(test)]
mod tests;
