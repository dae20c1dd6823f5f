//! Who is a peer: a certificate of the peer CA that names this cluster, a controller and its directory.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use crate::pki::Facts;
use crate::{pki, tls};

const SCHEME: &str = "maille-peer://";

/// Whom a peer's certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster's id.
    pub cluster_id: String,
    /// The controller's name.
    pub name: String,
    /// The id of its data directory.
    pub directory: String,
}

impl PeerIdentity {
    pub(super) fn uri(&self) -> String {
        format!(
            "{SCHEME}{}/{}/{}",
            self.cluster_id, self.name, self.directory
        )
    }

    /// Reads it from a certificate; none where the certificate is an administrator's or somebody else's.
    pub fn of(facts: &Facts) -> Option<Self> {
        let [uri] = facts.uris.as_slice() else {
            return None;
        };
        let mut parts = uri.strip_prefix(SCHEME)?.split('/').map(str::to_owned);
        let identity = Self {
            cluster_id: parts.next()?,
            name: parts.next()?,
            directory: parts.next()?,
        };
        parts.next().is_none().then_some(identity)
    }
}

/// Whom a port or a caller accepts, of those who chain to the peer CA.
#[derive(Debug, Clone)]
pub(super) enum Accepted {
    /// Controllers of this cluster.
    Peers(String),
    /// Anybody; each call is judged by its identity.
    Anybody,
}

/// Verifies against roots that can change while servers and clients use it.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    accepted: Accepted,
    roots: ArcSwap<Roots>,
}

#[derive(Debug)]
struct Roots {
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
}

impl Roots {
    fn new(certificates: &[CertificateDer<'static>]) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store
                .add(certificate.clone())
                .map_err(|failure| failure.to_string())?;
        }
        let store = Arc::new(store);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), tls::provider())
                .build();
        let servers = WebPkiServerVerifier::builder_with_provider(store, tls::provider()).build();
        Ok(Self {
            clients: clients.map_err(|failure| failure.to_string())?,
            servers: servers.map_err(|failure| failure.to_string())?,
        })
    }
}

impl PeerVerifier {
    pub(super) fn new(
        roots: &[CertificateDer<'static>],
        accepted: Accepted,
    ) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self {
            accepted,
            roots: ArcSwap::from_pointee(Roots::new(roots)?),
        }))
    }

    pub(super) fn replace_roots(&self, roots: &[CertificateDer<'static>]) -> Result<(), String> {
        self.roots.store(Arc::new(Roots::new(roots)?));
        Ok(())
    }

    fn check(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let Accepted::Peers(cluster_id) = &self.accepted else {
            return Ok(());
        };
        let facts = pki::parse(leaf)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        match PeerIdentity::of(&facts) {
            Some(peer) if peer.cluster_id == *cluster_id => Ok(()),
            _ => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
        }
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .roots
            .load()
            .clients
            .verify_client_cert(leaf, intermediates, now)?;
        self.check(leaf)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots
            .load()
            .clients
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots
            .load()
            .clients
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.load().clients.supported_verify_schemes()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.roots
                .load()
                .servers
                .verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        self.check(leaf)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots
            .load()
            .servers
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots
            .load()
            .servers
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.load().servers.supported_verify_schemes()
    }
}
