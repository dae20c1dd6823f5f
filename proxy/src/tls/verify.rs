//! Who calls at the mesh port: a chain to our roots, one SPIFFE id in it, of our trust domain. Who is called is verified as a
//! controller is, by `identity`.

use crate::policy::PeerIdentity;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};
use xds_api::spiffe::{SpiffeError, SpiffeId};

/// What a certificate can be refused for beyond its chain.
#[derive(Debug, thiserror::Error)]
enum WrongIdentity {
    #[error("the certificate does not carry exactly one workload's SPIFFE id")]
    NoSpiffeId,
    #[error("the certificate's name is no SPIFFE id: {0}")]
    NotSpiffe(SpiffeError),
    #[error("the certificate is {found}'s, of another trust domain than {own}")]
    ForeignDomain { found: Arc<str>, own: Arc<str> },
}

impl From<WrongIdentity> for Error {
    fn from(error: WrongIdentity) -> Self {
        let other = OtherError(Arc::new(error));
        Self::InvalidCertificate(CertificateError::Other(other))
    }
}

/// The SPIFFE id of a workload's certificate: its only URI name (SPIFFE X.509-SVID §2).
pub fn peer_identity(leaf: &CertificateDer<'_>) -> Result<PeerIdentity, Error> {
    let certificate = parse(leaf)?;
    let mut names = certificate.valid_uri_names();
    let (Some(id), None) = (names.next(), names.next()) else {
        return Err(WrongIdentity::NoSpiffeId.into());
    };
    let checked: SpiffeId = id.parse().map_err(WrongIdentity::NotSpiffe)?;
    // An administrator's certificate is nobody's in the mesh.
    let namespace = checked.namespace().ok_or(WrongIdentity::NoSpiffeId)?;
    Ok(PeerIdentity {
        id: id.into(),
        namespace: namespace.into(),
        trust_domain: checked.trust_domain().into(),
    })
}

/// Whether the certificate has not ended. Only for sessions whose chain was verified when they began.
pub(super) fn not_ended(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), String> {
    match rest_of_life(leaf, now) {
        Duration::ZERO => Err("it has ended".to_owned()),
        _ => Ok(()),
    }
}

/// The time until the certificate ends; zero where it has, or cannot be read.
pub(super) fn rest_of_life(leaf: &CertificateDer<'_>, now: UnixTime) -> Duration {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return Duration::ZERO;
    };
    let end = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Duration::from_secs(end.saturating_sub(now.as_secs()))
}

fn parse<'a>(leaf: &'a CertificateDer<'_>) -> Result<EndEntityCert<'a>, Error> {
    EndEntityCert::try_from(leaf)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}

fn refusal(error: webpki::Error) -> Error {
    let known = match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(known)
}

/// At the mesh port: any workload of our trust domain.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    own: Arc<str>,
}

impl ClientVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: &CryptoProvider,
        own: &PeerIdentity,
    ) -> Self {
        Self {
            roots,
            algorithms: provider.signature_verification_algorithms,
            own: own.trust_domain.clone(),
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Every workload has one certificate; hints would only make the handshake longer.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (roots, usage) = (&self.roots.roots, KeyUsage::client_auth());
        parse(leaf)?
            .verify_for_usage(
                self.algorithms.all,
                roots,
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map_err(refusal)?;
        let found = peer_identity(leaf)?;
        if found.trust_domain != self.own {
            let (found, own) = (found.id, self.own.clone());
            return Err(WrongIdentity::ForeignDomain { found, own }.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(
            "only TLS 1.3 is spoken between proxies".to_owned(),
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
