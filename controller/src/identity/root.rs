//! The mesh's root: made at bootstrap by the leader, or brought as files; its key sealed before anybody else sees it.

use std::path::PathBuf;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;

use super::now;
use super::seal::{DataKey, Keyring, SealError};
use crate::config::RootFiles;
use crate::model::command::SetTrust;
use crate::model::{Root, RootPhase, State};
use crate::pki::{self, CertificateError, KeyError, Names, P256Key, Term};

/// A root's life. Rotation, not expiry, is what ends it.
const ROOT_LIFETIME: i64 = 10 * 365 * 86_400;
/// Clocks differ.
const BACKDATE: i64 = 300;

/// The root could not be made, read or opened.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file cannot be read.
    #[error("cannot read the root's file {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The files do not make a root.
    #[error("the root in {path} cannot be used: {reason}")]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// In what way.
        reason: String,
    },
    /// The cluster has none yet.
    #[error(
        "the cluster has no root yet; the leader makes it within seconds of the first election"
    )]
    None,
    /// The key is not the certificate's.
    #[error("the sealed root key does not belong to the active root")]
    OtherKey,
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A key could not be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A root with its key in clear. Lives for one signature.
pub(super) struct OpenRoot {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: P256Key,
}

/// The command that gives a new cluster its root.
pub(super) fn found(
    state: &State,
    keyring: &Keyring,
    files: Option<&RootFiles>,
) -> Result<SetTrust, RootError> {
    let (certificate, key) = match files {
        Some(files) => bring(files)?,
        None => make(state.mesh().trust_domain())?,
    };
    let (data_key, wrapped) = keyring.new_data_key(state.cluster_id())?;
    let sealed = seal(&data_key, state.cluster_id(), &certificate, &key)?;
    let root = Root {
        certificate: Bytes::copy_from_slice(&certificate),
        phase: RootPhase::Active as i32,
    };
    Ok(SetTrust {
        expected_revision: state.trust_revision(),
        roots: vec![root],
        sealed: vec![wrapped, sealed],
    })
}

fn seal(
    data_key: &DataKey,
    cluster_id: &str,
    certificate: &[u8],
    key: &P256Key,
) -> Result<crate::model::Sealed, RootError> {
    Ok(data_key.seal(cluster_id, &name_of(certificate), &key.to_pkcs8()?)?)
}

fn name_of(certificate: &[u8]) -> String {
    format!("root/{}", hex::encode(pki::fingerprint(certificate)))
}

fn make(trust_domain: &str) -> Result<(CertificateDer<'static>, P256Key), RootError> {
    let key = P256Key::generate()?;
    let names = Names {
        common_name: format!("Maille root of {trust_domain}"),
        uris: vec![format!("spiffe://{trust_domain}")],
        ..Names::default()
    };
    let term = Term {
        not_before: now() - BACKDATE,
        not_after: now() + ROOT_LIFETIME,
    };
    Ok((pki::self_signed(&names, term, &key)?, key))
}

fn bring(files: &RootFiles) -> Result<(CertificateDer<'static>, P256Key), RootError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| RootError::Read {
            path: path.clone(),
            source,
        })
    };
    let unfit = |path: &PathBuf, reason: String| RootError::Unfit {
        path: path.clone(),
        reason,
    };
    let certificates = pki::parse_pem(&read(&files.certificate)?)
        .map_err(|e| unfit(&files.certificate, e.to_string()))?;
    let pem = zeroize::Zeroizing::new(read(&files.key)?);
    let key = P256Key::from_pem(&pem).map_err(|e| unfit(&files.key, e.to_string()))?;
    let certificate = certificates.into_iter().next().ok_or(RootError::None)?;
    let facts = pki::parse(&certificate).map_err(|e| unfit(&files.certificate, e.to_string()))?;
    if !facts.is_ca {
        return Err(unfit(
            &files.certificate,
            "it may not sign others (basicConstraints CA is not set)".to_owned(),
        ));
    }
    if facts.key_sha256 != pki::fingerprint(key.public_info()) {
        return Err(unfit(
            &files.key,
            "it is not the certificate's key".to_owned(),
        ));
    }
    if facts.term.not_after < now() + super::authority::ISSUER_LIFETIME {
        return Err(unfit(
            &files.certificate,
            "it ends within three days".to_owned(),
        ));
    }
    Ok((certificate, key))
}

/// Opens the active root. Drop it as soon as it has signed.
pub(super) fn open(state: &State, keyring: &Keyring) -> Result<OpenRoot, RootError> {
    let active = state
        .mesh()
        .roots()
        .iter()
        .find(|root| root.phase() == RootPhase::Active);
    let certificate = &active.ok_or(RootError::None)?.certificate;
    let clear = keyring
        .data_key(state)?
        .open(state, &name_of(certificate))?;
    let key = P256Key::from_pkcs8(&clear)?;
    if pki::parse(certificate)?.key_sha256 != pki::fingerprint(key.public_info()) {
        return Err(RootError::OtherKey);
    }
    Ok(OpenRoot {
        certificate: CertificateDer::from(certificate.to_vec()),
        key,
    })
}
