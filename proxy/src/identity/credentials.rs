//! One certificate with its key and the roots beside it, ready for handshakes.

use super::key::PrivateKey;
use super::verify::{AnyServer, ExpectIdentity};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Controllers speak HTTP/2.
const ALPN: &[u8] = b"h2";

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// Key, certificate and roots do not make working TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// rustls refuses them.
    #[error("the certificate and its key cannot be used together")]
    Unusable(#[from] rustls::Error),
    /// There is nobody to trust.
    #[error("there are no usable trust roots")]
    Roots,
}

/// The workload's certificate, key and roots with ready TLS settings. TLS 1.3 only.
pub struct Credentials {
    /// The SPIFFE id of the certificate.
    pub identity: Arc<str>,
    /// Its trust domain.
    pub trust_domain: Arc<str>,
    /// The leaf first, then the issuing certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// DER, the active root first.
    pub roots: Vec<CertificateDer<'static>>,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
    /// When the certificate is to be renewed, in seconds since the epoch.
    pub renew_at: i64,
    key: PrivateKey,
    trust: Arc<RootCertStore>,
    controller: Arc<ClientConfig>,
}

/// What credentials are made of.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) identity: Arc<str>,
    pub(super) trust_domain: Arc<str>,
    pub(super) key: PrivateKey,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) renew_at: i64,
}

impl Credentials {
    pub(super) fn new(parts: Parts) -> Result<Self, CredentialError> {
        let key = PROVIDER.key_provider.load_private_key(parts.key.der())?;
        let certified = CertifiedKey::new(parts.chain.clone(), key);
        certified.keys_match()?;
        let trust = Arc::new(trust(&parts.roots));
        if trust.is_empty() {
            return Err(CredentialError::Roots);
        }
        let controller = controller(certified, trust.clone(), &parts.trust_domain);
        Ok(Self {
            identity: parts.identity,
            trust_domain: parts.trust_domain,
            chain: parts.chain,
            roots: parts.roots,
            not_before: parts.not_before,
            not_after: parts.not_after,
            renew_at: parts.renew_at,
            key: parts.key,
            trust,
            controller: Arc::new(controller),
        })
    }

    /// What a test's authority issued.
    #[cfg(test)]
    pub(crate) fn for_test(
        identity: &str,
        trust_domain: &str,
        key: PrivateKey,
        leaf: &[u8],
        root: &CertificateDer<'static>,
    ) -> Self {
        let parts = Parts {
            identity: identity.into(),
            trust_domain: trust_domain.into(),
            key,
            chain: vec![leaf.to_vec().into()],
            roots: vec![root.clone()],
            not_before: 0,
            not_after: i64::MAX,
            renew_at: i64::MAX,
        };
        Self::new(parts).expect("a test's authority issues what fits together")
    }

    pub(super) fn parts(&self) -> Parts {
        Parts {
            identity: self.identity.clone(),
            trust_domain: self.trust_domain.clone(),
            key: self.key.clone(),
            chain: self.chain.clone(),
            roots: self.roots.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
            renew_at: self.renew_at,
        }
    }

    /// The key, for whoever makes TLS settings from these credentials. Never logged, never sent.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.der()
    }

    /// The roots, ready for verifiers.
    pub fn trust(&self) -> &Arc<RootCertStore> {
        &self.trust
    }

    /// For a connection to a controller of the own trust domain.
    pub fn controller(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.controller)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The own certificate, whoever asks.
#[derive(Debug)]
struct Own(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Own {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn trust(roots: &[CertificateDer<'static>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(roots.iter().cloned());
    if unusable > 0 {
        tracing::warn!(unusable, "trust roots that cannot be read are left out");
    }
    store
}

fn controller(
    certified: CertifiedKey,
    trust: Arc<RootCertStore>,
    trust_domain: &str,
) -> ClientConfig {
    let expected = super::controller_of(trust_domain).into();
    let verifier = ExpectIdentity::new(trust, expected, &PROVIDER);
    let mut config = client_builder(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(Own(Arc::new(certified))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

fn client_builder(
    verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
}

/// For the first certificate: the controller must prove its identity by these roots; we have nothing to show but the token.
pub(super) fn joining(roots: &[CertificateDer<'static>], trust_domain: &str) -> Arc<ClientConfig> {
    let expected = super::controller_of(trust_domain).into();
    let verifier = ExpectIdentity::new(Arc::new(trust(roots)), expected, &PROVIDER);
    anonymous(Arc::new(verifier))
}

/// For the one call that fetches the roots: whoever answers, the token's hash decides.
pub(super) fn fetching_roots() -> Arc<ClientConfig> {
    anonymous(Arc::new(AnyServer::new(&PROVIDER)))
}

fn anonymous(verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>) -> Arc<ClientConfig> {
    let mut config = client_builder(verifier).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
