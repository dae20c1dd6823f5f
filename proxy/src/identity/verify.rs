//! Who the other side is: a chain to our roots, and the SPIFFE id in its leaf. DNS names mean nothing here.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use webpki::EndEntityCert;

/// A leaf that does not say whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// It sent no certificate.
    #[error("the peer sent no certificate")]
    NoCertificate,
    /// It is no certificate that can be read.
    #[error("the peer's certificate cannot be read")]
    Unreadable,
    /// A workload's leaf has exactly one name, a SPIFFE id.
    #[error("the peer's certificate does not hold exactly one SPIFFE id")]
    NoIdentity,
}

/// The one SPIFFE id of a leaf.
pub fn identity_of<'a>(leaf: &'a CertificateDer<'_>) -> Result<&'a str, LeafError> {
    let certificate = EndEntityCert::try_from(leaf).map_err(|_| LeafError::Unreadable)?;
    let mut names = certificate.valid_uri_names();
    let name = names.next().filter(|name| name.starts_with("spiffe://"));
    match (name, names.next()) {
        (Some(name), None) => Ok(name),
        _ => Err(LeafError::NoIdentity),
    }
}

/// Whether a leaf holds exactly this identity; otherwise what it holds instead.
pub(super) fn check_identity(
    leaf: Option<&CertificateDer<'_>>,
    expected: &str,
) -> Result<(), String> {
    match leaf.ok_or(LeafError::NoCertificate).and_then(identity_of) {
        Ok(found) if found == expected => Ok(()),
        Ok(found) => Err(found.to_owned()),
        Err(error) => Err(format!("a certificate without identity ({error})")),
    }
}

/// Takes a server whose chain leads to the roots and whose leaf holds exactly the expected SPIFFE id.
#[derive(Debug)]
pub(crate) struct ExpectIdentity {
    roots: Arc<RootCertStore>,
    expected: Arc<str>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ExpectIdentity {
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        expected: Arc<str>,
        provider: &CryptoProvider,
    ) -> Self {
        Self {
            roots,
            expected,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for ExpectIdentity {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        match identity_of(end_entity) {
            Ok(found) if found == &*self.expected => Ok(ServerCertVerified::assertion()),
            Ok(found) => Err(Error::General(format!(
                "the server is {found}, not {}",
                self.expected
            ))),
            Err(error) => Err(Error::General(error.to_string())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Takes any server: for the one call whose answer is checked against the join token's hash instead.
#[derive(Debug)]
pub(super) struct AnyServer {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyServer {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
        Self {
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn only_tls13() -> Error {
    Error::InvalidCertificate(CertificateError::BadSignature)
}
