//! TLS of the xDS and identity port: the controller's own mesh certificate, and clients of the mesh, or of no name at all.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use crate::tls::{self, ALPN_H2, RotatingCertificate};

/// The port's TLS. It begins without a certificate: handshakes fail until the authority has one.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificate: Arc<RotatingCertificate>,
    clients: Arc<MeshClients>,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerTls {
    /// Without a certificate and without roots.
    pub fn new() -> Self {
        let certificate = RotatingCertificate::empty();
        let clients = Arc::new(MeshClients::new());
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(tls::VERSIONS)
            .expect("aws-lc speaks TLS 1.3")
            .with_client_cert_verifier(Arc::clone(&clients) as _)
            .with_cert_resolver(Arc::clone(&certificate) as _);
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        // A resumed session would carry a certificate past its end or past a change of roots.
        config.send_tls13_tickets = 0;
        Self {
            config: Arc::new(config),
            certificate,
            clients,
        }
    }

    /// For the port. The certificate and the roots in it change without a restart.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The certificate that is presented.
    pub(super) fn certificate(&self) -> &RotatingCertificate {
        &self.certificate
    }

    /// Whether handshakes can succeed.
    pub fn is_ready(&self) -> bool {
        self.certificate.is_set()
    }

    /// Trusts clients that chain to these roots from now on.
    pub(super) fn trust(&self, roots: &[CertificateDer<'static>]) -> Result<(), String> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store
                .add(root.clone())
                .map_err(|failure| failure.to_string())?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(store), tls::provider())
                .build()
                .map_err(|failure| failure.to_string())?;
        self.clients.verifier.store(Some(Arc::new(verifier)));
        Ok(())
    }
}

/// Clients may present a certificate; one that is presented must chain to the mesh's roots.
#[derive(Debug)]
struct MeshClients {
    verifier: ArcSwapOption<Arc<dyn ClientCertVerifier>>,
    schemes: Vec<SignatureScheme>,
}

impl MeshClients {
    fn new() -> Self {
        let schemes = tls::provider()
            .signature_verification_algorithms
            .supported_schemes();
        Self {
            verifier: ArcSwapOption::empty(),
            schemes,
        }
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        match self.verifier.load().as_deref() {
            Some(verifier) => Ok(Arc::clone(verifier)),
            None => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }
}

impl ClientCertVerifier for MeshClients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verifier()?
            .verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier()?
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier()?
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
