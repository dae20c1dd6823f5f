//! The workload's private key (ECDSA P-256): made here, stored here, shown to nobody.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use zeroize::Zeroizing;

/// A private key that is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
}

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} the workload's key")]
pub struct KeyError {
    doing: &'static str,
    source: rcgen::Error,
}

fn failed(doing: &'static str) -> impl FnOnce(rcgen::Error) -> KeyError {
    move |source| KeyError { doing, source }
}

impl PrivateKey {
    /// Draws a new one.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed("make"))?;
        Ok(Self::from_pkcs8(pair.serialize_der()))
    }

    /// A key that was stored.
    pub fn from_pkcs8(pkcs8: Vec<u8>) -> Self {
        Self {
            pkcs8: Zeroizing::new(pkcs8),
        }
    }

    /// What is stored.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// A certificate request (PKCS#10, DER). It names nobody: the identity comes from who asks.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let der = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map_err(failed("read"))?;
        let request = CertificateParams::default().serialize_request(&pair);
        Ok(request.map_err(failed("sign with"))?.der().to_vec())
    }

    /// For rustls.
    pub(super) fn der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PrivateKey(…)")
    }
}
