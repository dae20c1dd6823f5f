//! A new controller's first call: it has a join token and trusts nobody yet. It takes the roots from whoever answers, keeps those whose hash
//! the token names, and asks for the cluster's secrets only from a controller that chains to them.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use xds_api::join_token::JoinToken;
use xds_api::maille::v1::identity_client::IdentityClient;
use xds_api::maille::v1::{BundleRequest, SecretsRequest, SecretsResponse};

use super::controller_identity;
use crate::pki;
use crate::tls::{self, ALPN_H2, Connector};

/// Never looked at: who a controller is stands in its SPIFFE id.
const ANY_NAME: &str = "controller.maille";

/// The secrets could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FirstTrustError {
    /// The token names nobody to ask.
    #[error(
        "the join token names no controllers; make a new one with `maille token create --controller`"
    )]
    Nobody,
    /// The cluster refused.
    #[error("{}", .0.message())]
    Refused(Status),
    /// None of the controllers could be asked.
    #[error("no controller handed out the secrets; the last one asked was {controller}")]
    Unreachable {
        /// `host:port`.
        controller: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The whole mesh answered with roots that are not the token's.
#[derive(Debug, thiserror::Error)]
#[error(
    "its trust roots are not those that the join token names (wrong roots' hash): it is another mesh's controller, or the token is older than the last rotation"
)]
struct WrongRoots;

/// Asks the token's controllers, in turn, for the secrets.
pub async fn fetch_secrets(token: &JoinToken) -> Result<SecretsResponse, FirstTrustError> {
    let mut last = Err(FirstTrustError::Nobody);
    for controller in &token.controllers {
        match ask(controller, token).await {
            Ok(secrets) => return Ok(secrets),
            Err(Failed::Refused(status)) => return Err(FirstTrustError::Refused(status)),
            Err(Failed::Other(source)) => {
                last = Err(FirstTrustError::Unreachable {
                    controller: controller.clone(),
                    source,
                });
            }
        }
    }
    last
}

enum Failed {
    /// Every controller would say the same.
    Refused(Status),
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::Refused(status),
            _ => Self::Other(Box::new(status)),
        }
    }
}

async fn ask(controller: &str, token: &JoinToken) -> Result<SecretsResponse, Failed> {
    let stranger = connect(controller, Trust::Nobody)?;
    let bundle = IdentityClient::new(stranger)
        .bundle(BundleRequest {})
        .await?
        .into_inner();
    let mut roots = RootCertStore::empty();
    for root in bundle.roots {
        if token.roots_sha256.contains(&pki::fingerprint(&root)) {
            roots
                .add(CertificateDer::from(root.to_vec()))
                .map_err(|error| Failed::Other(Box::new(error)))?;
        }
    }
    if roots.is_empty() {
        return Err(Failed::Other(Box::new(WrongRoots)));
    }
    let identity = controller_identity(&bundle.trust_domain);
    let trusted = connect(controller, Trust::Controller { roots, identity })?;
    let request = SecretsRequest {
        join_token: token.to_string(),
    };
    Ok(IdentityClient::new(trusted)
        .secrets(request)
        .await?
        .into_inner())
}

fn connect(controller: &str, trust: Trust) -> Result<Channel, Failed> {
    let provider = tls::provider();
    let verifier = FirstVerifier {
        trust,
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(tls::VERSIONS)
        .expect("aws-lc speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    let name = ServerName::try_from(ANY_NAME).expect("a constant DNS name");
    let endpoint = Endpoint::from_shared(format!("http://{controller}"))
        .map_err(|error| Failed::Other(Box::new(error)))?;
    Ok(endpoint.connect_with_connector_lazy(Connector::new(Arc::new(config), name)))
}

/// Whom a connection is taken from.
#[derive(Debug)]
enum Trust {
    /// Whoever answers: what it says is checked against the token instead.
    Nobody,
    /// A controller of the token's mesh.
    Controller {
        roots: RootCertStore,
        identity: String,
    },
}

#[derive(Debug)]
struct FirstVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for FirstVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Controller { roots, identity } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let facts = pki::parse(leaf)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        match facts.uris.as_slice() {
            [uri] if uri == identity => Ok(ServerCertVerified::assertion()),
            _ => Err(Error::General(format!("the server is not {identity}"))),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
