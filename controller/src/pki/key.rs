//! A P-256 key that stays inside aws-lc: it signs for rcgen and for rustls without ever becoming PEM in memory.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use rcgen::PublicKeyData;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// A key could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness, or no memory.
    #[error("cannot make a P-256 key; the system's source of randomness does not answer")]
    Generate,
    /// The bytes are no such key.
    #[error("is no PKCS#8 P-256 private key; convert it with `openssl pkcs8 -topk8 -nocrypt`")]
    Format,
}

/// A private key on P-256. aws-lc cleanses its memory when it is dropped.
#[derive(Clone)]
pub struct P256Key {
    pair: Arc<EcdsaKeyPair>,
    public: Arc<[u8]>,
    public_info: Arc<[u8]>,
}

impl P256Key {
    /// Draws a new key.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| KeyError::Generate)?;
        Self::of(pair)
    }

    /// Reads a PKCS#8 document.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map_err(|_| KeyError::Format)?;
        Self::of(pair)
    }

    /// Reads the PEM form of a PKCS#8 document.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_| KeyError::Format)?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    fn of(pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let public = Arc::from(pair.public_key().as_ref());
        let info = pair.public_key().as_der().map_err(|_| KeyError::Format)?;
        Ok(Self {
            public,
            public_info: Arc::from(info.as_ref()),
            pair: Arc::new(pair),
        })
    }

    /// The key as PKCS#8, for sealing or for a file that only its owner reads.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = self.pair.to_pkcs8v1().map_err(|_| KeyError::Format)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The PEM form of `to_pkcs8`.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let encoded = Zeroizing::new(
            base64::engine::general_purpose::STANDARD.encode(self.to_pkcs8()?.as_slice()),
        );
        let mut pem = Zeroizing::new(String::with_capacity(encoded.len() + 64));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        for line in encoded.as_bytes().chunks(64) {
            pem.push_str(
                std::str::from_utf8(line).expect("base64 is ASCII, so every cut of it is UTF-8"),
            );
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn public_info(&self) -> &[u8] {
        &self.public_info
    }

    fn sign_message(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for P256Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("P256Key")
    }
}

impl PublicKeyData for P256Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for P256Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.sign_message(message)
            .ok_or(rcgen::Error::RemoteKeyError)
    }
}

impl SigningKey for P256Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.public_info()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for P256Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.sign_message(message)
            .ok_or_else(|| rustls::Error::General("signing failed".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_survives_its_pem_form_and_says_nothing_of_itself() {
        let key = P256Key::generate().unwrap();
        let again = P256Key::from_pem(key.to_pem().unwrap().as_bytes()).unwrap();
        assert_eq!(key.public_info(), again.public_info());
        assert_eq!("P256Key", format!("{key:?}"));
        assert!(
            P256Key::from_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
                .is_err()
        );
    }
}
