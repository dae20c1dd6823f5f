//! Key, certificate and roots on disk, so that a restart needs no controller and no new certificate.

use super::credentials::{CredentialError, Credentials, Parts};
use super::key::PrivateKey;
use crate::files::{self, FileError, Format};
use prost::Message;
use rustls::pki_types::CertificateDer;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const FORMAT: Format = Format {
    magic: *b"MAILLEID",
    version: 1,
};

/// What was stored cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is whole and its content is not ours.
    #[error("{path} holds something else than an identity")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        source: prost::DecodeError,
    },
    /// Key, certificate and roots do not fit together.
    #[error("the identity in {path} cannot be used")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: CredentialError,
    },
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(string, tag = "1")]
    identity: String,
    #[prost(string, tag = "2")]
    trust_domain: String,
    #[prost(bytes = "vec", tag = "3")]
    pkcs8: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    chain: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    roots: Vec<Vec<u8>>,
    #[prost(int64, tag = "6")]
    not_before: i64,
    #[prost(int64, tag = "7")]
    not_after: i64,
    #[prost(int64, tag = "8")]
    renew_at: i64,
}

/// The file that the identity is stored in.
#[derive(Debug, Clone)]
pub struct Stored {
    path: PathBuf,
}

impl Stored {
    /// In the proxy's data directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("identity"),
        }
    }

    /// What was stored, expired or not. `None`: nothing yet.
    pub fn load(&self) -> Result<Option<Credentials>, StoreError> {
        let Some(body) = files::read(&self.path, FORMAT)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        let record = Record::decode(body.as_slice()).map_err(|source| StoreError::Content {
            path: self.path.clone(),
            source,
        })?;
        let certificates =
            |list: Vec<Vec<u8>>| list.into_iter().map(CertificateDer::from).collect();
        let parts = Parts {
            identity: record.identity.into(),
            trust_domain: record.trust_domain.into(),
            key: PrivateKey::from_pkcs8(record.pkcs8),
            chain: certificates(record.chain),
            roots: certificates(record.roots),
            not_before: record.not_before,
            not_after: record.not_after,
            renew_at: record.renew_at,
        };
        let credentials = Credentials::new(parts).map_err(|source| StoreError::Unusable {
            path: self.path.clone(),
            source,
        })?;
        Ok(Some(credentials))
    }

    /// Stores these in place of what was there.
    pub fn save(&self, credentials: &Credentials) -> Result<(), StoreError> {
        let parts = credentials.parts();
        let bytes = |list: &[CertificateDer<'_>]| list.iter().map(|der| der.to_vec()).collect();
        let mut record = Record {
            identity: parts.identity.to_string(),
            trust_domain: parts.trust_domain.to_string(),
            pkcs8: parts.key.pkcs8().to_vec(),
            chain: bytes(&parts.chain),
            roots: bytes(&parts.roots),
            not_before: parts.not_before,
            not_after: parts.not_after,
            renew_at: parts.renew_at,
        };
        let body = Zeroizing::new(record.encode_to_vec());
        zeroize::Zeroize::zeroize(&mut record.pkcs8);
        Ok(files::write(&self.path, FORMAT, &body)?)
    }
}
