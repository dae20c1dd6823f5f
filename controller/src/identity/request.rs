//! A certificate signing request: whether its sender holds a P-256 key. Its names are ignored.

use rcgen::PublicKeyData;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};
use x509_parser::prelude::FromDer;

/// A request for P-256 has some 300 bytes; names and attributes that we ignore may add to it.
const MAX_REQUEST: usize = 4096;
/// An uncompressed point: 4, x, y.
const POINT: usize = 65;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Too long, or no PKCS#10.
    #[error("the certificate request is no PKCS#10 in DER of at most {MAX_REQUEST} bytes")]
    Format,
    /// Another kind of key.
    #[error("the certificate request is for another kind of key; make one on P-256 (prime256v1)")]
    Key,
    /// The signature is not by the key.
    #[error("the certificate request is not signed by the key that it names")]
    Proof,
}

/// The key that asks for a certificate; its holder has proved to have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestedKey {
    point: Vec<u8>,
    info: Vec<u8>,
}

impl RequestedKey {
    /// Checks a PKCS#10 request, DER.
    pub(super) fn of(request: &[u8]) -> Result<Self, RequestError> {
        if request.len() > MAX_REQUEST {
            return Err(RequestError::Format);
        }
        let (rest, request) =
            X509CertificationRequest::from_der(request).map_err(|_| RequestError::Format)?;
        if !rest.is_empty() {
            return Err(RequestError::Format);
        }
        let info = &request.certification_request_info.subject_pki;
        let curve = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok());
        let point = info.subject_public_key.data.as_ref();
        let fits = info.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
            && curve == Some(OID_EC_P256)
            && point.len() == POINT
            && point[0] == 4;
        if !fits {
            return Err(RequestError::Key);
        }
        request
            .verify_signature()
            .map_err(|_| RequestError::Proof)?;
        Ok(Self {
            point: point.to_vec(),
            info: info.raw.to_vec(),
        })
    }

    /// SubjectPublicKeyInfo, DER.
    pub(super) fn public_info(&self) -> &[u8] {
        &self.info
    }
}

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pki::P256Key;
    use rcgen::CertificateParams;

    #[test]
    fn a_request_by_the_holder_of_a_p256_key_is_taken() {
        let key = P256Key::generate().unwrap();
        let request = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        assert_eq!(
            key.public_info(),
            RequestedKey::of(request.der()).unwrap().public_info()
        );
    }

    #[test]
    fn other_keys_forged_signatures_and_garbage_are_refused() {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::default()
            .serialize_request(&other)
            .unwrap();
        assert_eq!(Err(RequestError::Key), RequestedKey::of(request.der()));

        let key = P256Key::generate().unwrap();
        let mut forged = CertificateParams::default()
            .serialize_request(&key)
            .unwrap()
            .der()
            .to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert_eq!(Err(RequestError::Proof), RequestedKey::of(&forged));
        assert_eq!(Err(RequestError::Format), RequestedKey::of(b"garbage"));
        assert_eq!(
            Err(RequestError::Format),
            RequestedKey::of(&[0x30; MAX_REQUEST + 1])
        );
    }
}
