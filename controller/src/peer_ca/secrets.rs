//! Reading the secrets directory, and refusing one that others could read.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use zeroize::{Zeroize, Zeroizing};

use super::names;
use crate::pki::{self, P256Key};

/// The secrets directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// There is none.
    #[error(
        "there are no secrets at {path}: make them once with `maille-controller init`, then copy the directory to each controller's host; one that joins by joinTokenFile fetches them itself"
    )]
    Missing {
        /// Where they were looked for.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others on this host could read a secret.
    #[error("{path} has mode {mode:04o}, so others can read it; run `chmod 0400 {path}`")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file does not hold what its name says.
    #[error(
        "{path} is damaged ({reason}); copy the secrets directory again from another controller or from your backup"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// In what way.
        reason: String,
    },
}

/// The key-encryption key. Wiped from memory when it is dropped.
pub struct Kek(Zeroizing<[u8; 32]>);

impl Kek {
    /// Its bytes, for wrapping and unwrapping data keys.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From bytes that are wiped at the caller's.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let kek = Self(Zeroizing::new(bytes));
        bytes.zeroize();
        kek
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Kek")
    }
}

/// A secrets directory in memory.
#[derive(Debug)]
pub struct Secrets {
    cluster_id: String,
    trust_domain: String,
    kek: Kek,
    roots: Vec<CertificateDer<'static>>,
    key: P256Key,
}

impl Secrets {
    /// Reads and checks a directory.
    pub fn load(directory: &Path) -> Result<Self, SecretsError> {
        if !directory.join(names::CA_CERTIFICATE).exists() {
            return Err(SecretsError::Missing {
                path: directory.to_owned(),
            });
        }
        let roots_path = directory.join(names::CA_CERTIFICATE);
        let roots =
            pki::parse_pem(&read(&roots_path)?).map_err(|failure| damaged(&roots_path, failure))?;
        let key_path = directory.join(names::CA_KEY);
        let key = P256Key::from_pem(&read_secret(&key_path)?)
            .map_err(|failure| damaged(&key_path, failure))?;
        let signer = pki::parse(&roots[0]).map_err(|failure| damaged(&roots_path, failure))?;
        if signer.key_sha256 != pki::fingerprint(key.public_info()) {
            return Err(damaged(
                &key_path,
                "it is not the key of the first certificate in peer-ca.crt",
            ));
        }
        let kek_path = directory.join(names::KEK);
        let kek = read_secret(&kek_path)?;
        let kek: [u8; 32] = kek.as_slice().try_into().map_err(|_| {
            damaged(
                &kek_path,
                format!("it has {} bytes instead of 32", kek.len()),
            )
        })?;
        let id_path = directory.join(names::CLUSTER_ID);
        let cluster_id = text(&id_path)?;
        if uuid::Uuid::parse_str(&cluster_id).is_err() {
            return Err(damaged(&id_path, "it holds no UUID"));
        }
        let trust_domain = text(&directory.join(names::TRUST_DOMAIN))?;
        Ok(Self {
            cluster_id,
            trust_domain,
            kek: Kek::new(kek),
            roots,
            key,
        })
    }

    /// The cluster that the secrets belong to.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The trust domain that was given to `init`.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The key-encryption key.
    pub fn kek(&self) -> &Kek {
        &self.kek
    }

    /// The key-encryption key alone; the rest is wiped.
    pub fn into_kek(self) -> Kek {
        self.kek
    }

    /// Every certificate that peers and administrators may chain to.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    pub(super) fn kek_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.kek.0.clone()
    }

    /// The certificate and the key that sign.
    pub(super) fn signer(&self) -> (&CertificateDer<'static>, &P256Key) {
        (&self.roots[0], &self.key)
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, SecretsError> {
    fs::read(path).map_err(|source| SecretsError::Read {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn text(path: &Path) -> Result<String, SecretsError> {
    let bytes = read(path)?;
    let text = String::from_utf8(bytes).map_err(|failure| damaged(path, failure))?;
    Ok(text.trim().to_owned())
}

pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
    let metadata = fs::metadata(path).map_err(|source| SecretsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretsError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(Zeroizing::new(read(path)?))
}

fn damaged(path: &Path, reason: impl fmt::Display) -> SecretsError {
    SecretsError::Damaged {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
