//! A certificate that can be replaced while servers and clients use it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::pki::P256Key;

/// What is presented in new handshakes; running connections keep what they began with.
#[derive(Debug, Default)]
pub struct RotatingCertificate {
    current: ArcSwapOption<CertifiedKey>,
}

impl RotatingCertificate {
    /// Without a certificate: handshakes fail until one is set.
    pub fn empty() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Presents this chain from now on. The leaf comes first, the root is left out.
    pub fn set(&self, chain: Vec<CertificateDer<'static>>, key: P256Key) {
        self.current
            .store(Some(Arc::new(CertifiedKey::new(chain, Arc::new(key)))));
    }

    /// Whether there is a certificate.
    pub fn is_set(&self) -> bool {
        self.current.load().is_some()
    }
}

impl ResolvesServerCert for RotatingCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

impl ResolvesClientCert for RotatingCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }

    fn has_certs(&self) -> bool {
        self.is_set()
    }
}
