//! `maille-controller init`: makes a cluster's secrets and the first administrator's certificate, once.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::files::{NewDirectory, is_free};
use super::grant::Grant;
use super::names;
use super::secrets::{Secrets, SecretsError};
use crate::pki::{self, CertificateError, KeyError, Names, P256Key, Purpose, Term};

/// The peer CA outlives several generations of hosts; it rotates by a second certificate in its list.
const PEER_CA_LIFETIME: i64 = 10 * 365 * 86_400;
/// An administrator renews once a year with `maille-controller admin-certificate`.
const ADMIN_LIFETIME: i64 = 365 * 86_400;
/// Clocks differ.
const BACKDATE: i64 = 300;

/// `init` refused, or failed half way (and took back what it had made).
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Something is there already.
    #[error(
        "{path} exists and is not empty; init never overwrites. Use what is there, or name another directory"
    )]
    Exists {
        /// What exists.
        path: PathBuf,
    },
    /// The disk refused.
    #[error("cannot write {path}")]
    Write {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The administrator's name does not fit a SPIFFE id.
    #[error("`{name}` is no administrator's name: use a–z, A–Z, 0–9, `.`, `-` and `_`")]
    AdminName {
        /// What was given.
        name: String,
    },
    /// The trust domain does not fit a SPIFFE id.
    #[error(
        "`{domain}` is no trust domain: use a–z, 0–9, `.`, `-` and `_`, for example `mesh.example.com`"
    )]
    TrustDomain {
        /// What was given.
        domain: String,
    },
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What was to be granted makes no sense.
    #[error("{0}")]
    Grant(String),
    /// The secrets that are there cannot be used.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// What `init` made.
#[derive(Debug, Clone)]
pub struct Initialized {
    /// The new cluster's id.
    pub cluster_id: String,
    /// The first administrator.
    pub admin_id: String,
}

/// Whom an administrator's certificate is for, and where it goes.
#[derive(Debug, Clone)]
pub struct AdminCertificate {
    /// The last part of `spiffe://<trust domain>/admin/<name>`.
    pub name: String,
    /// What its holder may do.
    pub grant: Grant,
    /// The directory to write: `client.crt`, `client.key`, `ca.crt`, `endpoints`.
    pub directory: PathBuf,
    /// `host:port` of admin ports, one a line in `endpoints`.
    pub endpoints: Vec<String>,
}

/// Makes the secrets directory and the first administrator's. `keep_kek_of` names the secrets of a cluster whose snapshot
/// is to be restored: its key-encryption key is kept, or the root key in the snapshot could never be opened again.
pub fn init(
    secrets: &Path,
    trust_domain: &str,
    admin: &AdminCertificate,
    keep_kek_of: Option<&Path>,
) -> Result<Initialized, InitError> {
    check_free(secrets)?;
    check_free(&admin.directory)?;
    check_names(trust_domain, &admin.name)?;
    let kek = match keep_kek_of {
        Some(old) => Secrets::load(old)?.kek_bytes(),
        None => Zeroizing::new(rand::random::<[u8; 32]>()),
    };
    let cluster_id = uuid::Uuid::new_v4().to_string();
    let key = P256Key::generate()?;
    let names = Names {
        common_name: format!("Maille peer CA {cluster_id}"),
        ..Names::default()
    };
    let ca = pki::self_signed(&names, term(PEER_CA_LIFETIME), &key)?;

    let written = write(
        secrets,
        &[
            (
                names::CA_CERTIFICATE,
                0o444,
                pki::to_pem(std::slice::from_ref(&ca)).as_bytes(),
            ),
            (names::CA_KEY, 0o400, key.to_pem()?.as_bytes()),
            (names::KEK, 0o400, kek.as_slice()),
            (
                names::CLUSTER_ID,
                0o444,
                format!("{cluster_id}\n").as_bytes(),
            ),
            (
                names::TRUST_DOMAIN,
                0o444,
                format!("{trust_domain}\n").as_bytes(),
            ),
        ],
    );
    written?;
    let admin_id =
        match admin_certificate(&ca, &key, std::slice::from_ref(&ca), trust_domain, admin) {
            Ok(id) => id,
            Err(failure) => {
                // Nothing half done: without the administrator's certificate a second `init` would be refused.
                std::fs::remove_dir_all(secrets).ok();
                return Err(failure);
            }
        };
    Ok(Initialized {
        cluster_id,
        admin_id,
    })
}

/// Makes one more administrator's certificate from existing secrets and answers its SPIFFE id.
pub fn write_admin_certificate(
    secrets: &Path,
    admin: &AdminCertificate,
) -> Result<String, InitError> {
    check_free(&admin.directory)?;
    let secrets = Secrets::load(secrets)?;
    check_names(secrets.trust_domain(), &admin.name)?;
    admin.grant.check().map_err(InitError::Grant)?;
    let (ca, key) = secrets.signer();
    admin_certificate(ca, key, secrets.roots(), secrets.trust_domain(), admin)
}

fn admin_certificate(
    ca: &CertificateDer<'static>,
    ca_key: &P256Key,
    roots: &[CertificateDer<'static>],
    trust_domain: &str,
    admin: &AdminCertificate,
) -> Result<String, InitError> {
    let id = format!("spiffe://{trust_domain}/admin/{}", admin.name);
    let key = P256Key::generate()?;
    let names = Names {
        common_name: admin.name.clone(),
        organization: admin.grant.organization(),
        unit: admin.grant.unit(),
        uris: vec![id.clone()],
        dns: Vec::new(),
    };
    let leaf = pki::issue(
        &names,
        Purpose::Leaf,
        term(ADMIN_LIFETIME),
        &key,
        ca,
        ca_key,
    )?;
    let mut endpoints = admin.endpoints.join("\n");
    endpoints.push('\n');
    write(
        &admin.directory,
        &[
            ("client.crt", 0o444, pki::to_pem(&[leaf]).as_bytes()),
            ("client.key", 0o400, key.to_pem()?.as_bytes()),
            ("ca.crt", 0o444, pki::to_pem(roots).as_bytes()),
            ("endpoints", 0o644, endpoints.as_bytes()),
        ],
    )?;
    Ok(id)
}

pub(super) fn check_free(path: &Path) -> Result<(), InitError> {
    match is_free(path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(InitError::Exists {
            path: path.to_owned(),
        }),
        Err(failure) if failure.kind() == io::ErrorKind::NotADirectory => Err(InitError::Exists {
            path: path.to_owned(),
        }),
        Err(source) => Err(InitError::Write {
            path: path.to_owned(),
            source,
        }),
    }
}

fn check_names(trust_domain: &str, admin: &str) -> Result<(), InitError> {
    let domain_fits =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if trust_domain.is_empty() || trust_domain.len() > 255 || !trust_domain.chars().all(domain_fits)
    {
        return Err(InitError::TrustDomain {
            domain: trust_domain.to_owned(),
        });
    }
    let name_fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let only_dots = admin.chars().all(|c| c == '.');
    if only_dots || admin.len() > 63 || !admin.chars().all(name_fits) {
        return Err(InitError::AdminName {
            name: admin.to_owned(),
        });
    }
    Ok(())
}

pub(super) fn write(path: &Path, files: &[(&str, u32, &[u8])]) -> Result<(), InitError> {
    let all = || {
        let directory = NewDirectory::begin(path)?;
        for (name, mode, bytes) in files {
            directory.write(name, *mode, bytes)?;
        }
        directory.finish()
    };
    all().map_err(|source| InitError::Write {
        path: path.to_owned(),
        source,
    })
}

fn term(lifetime: i64) -> Term {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs().cast_signed());
    Term {
        not_before: now - BACKDATE,
        not_after: now + lifetime,
    }
}
