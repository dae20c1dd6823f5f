//! From a checked request to a leaf and its record. Pure but for the serial number and the renewal's jitter.

use bytes::Bytes;
use rustls_pki_types::CertificateDer;

use super::accounts::AccountError;
use super::request::RequestError;
use super::seal::SealError;
use super::tokens::TokenError;
use crate::agreement::AgreementError;
use crate::model::IssuanceRecord;
use crate::pki::{self, CertificateError, Names, P256Key, Purpose, Term};

/// Clocks differ.
const BACKDATE: i64 = 300;
/// A leaf is renewed between these parts of its life, at a time that the server draws: renewals of a whole mesh that
/// started together spread out.
const RENEW_FROM: f64 = 0.4;
const RENEW_TO: f64 = 0.6;

/// Why no certificate was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request is wrong.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The token is not good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The service account's token proves nothing.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// Nobody says who asks.
    #[error(
        "nothing says who asks: send a join token or a service account's token for the first certificate, or connect with the current certificate to renew it"
    )]
    Nobody,
    /// The certificate is not one that can be renewed.
    #[error("the connection's certificate cannot be renewed: {0}")]
    NotRenewable(String),
    /// A field is too long.
    #[error("`workload` is no `<namespace>/<name>` of at most {0} characters")]
    Workload(usize),
    /// This controller cannot sign now.
    #[error("this controller cannot issue certificates: {0}")]
    NotIssuing(String),
    /// The record could not be written.
    #[error("the certificate could not be put on record: {0}")]
    Agreement(#[from] AgreementError),
    /// The record was refused.
    #[error("{0}")]
    Refused(String),
    /// Too many wait.
    #[error("too many certificates are being issued at once; ask again in a second")]
    Busy,
    /// Signing failed.
    #[error("the certificate could not be signed: {0}")]
    Sign(String),
}

impl From<CertificateError> for IssueError {
    fn from(failure: CertificateError) -> Self {
        Self::Sign(failure.to_string())
    }
}

impl From<SealError> for IssueError {
    fn from(failure: SealError) -> Self {
        Self::NotIssuing(failure.to_string())
    }
}

/// A controller's issuing key and certificate. The key exists only in this process's memory.
#[derive(Debug)]
pub(super) struct Issuing {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: P256Key,
    pub(super) term: Term,
    /// SHA-256 of the root that signed it.
    pub(super) root: [u8; 32],
}

/// A leaf, not yet on record.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) leaf: CertificateDer<'static>,
    pub(super) record: IssuanceRecord,
    pub(super) term: Term,
    pub(super) renew_at: i64,
}

/// Who gets a leaf and why.
#[derive(Debug)]
pub(super) struct Grant<'a> {
    pub(super) spiffe_id: &'a str,
    pub(super) dns: Vec<String>,
    pub(super) workload: String,
    pub(super) reason: String,
    pub(super) controller: &'a str,
}

/// Signs a leaf for `key` (whose SubjectPublicKeyInfo is `public_info`).
pub(super) fn draft(
    issuing: &Issuing,
    grant: Grant<'_>,
    key: &impl rcgen::PublicKeyData,
    public_info: &[u8],
    lifetime: i64,
    now: i64,
) -> Result<Draft, IssueError> {
    let term = Term {
        not_before: now - BACKDATE,
        not_after: (now + lifetime).min(issuing.term.not_after),
    };
    if term.not_after <= now {
        return Err(IssueError::NotIssuing(
            "its issuing certificate has ended".to_owned(),
        ));
    }
    let names = Names {
        uris: vec![grant.spiffe_id.to_owned()],
        dns: grant.dns,
        ..Names::default()
    };
    let leaf = pki::issue(
        &names,
        Purpose::Leaf,
        term,
        key,
        &issuing.certificate,
        &issuing.key,
    )?;
    let facts = pki::parse(&leaf)?;
    let record = IssuanceRecord {
        spiffe_id: grant.spiffe_id.to_owned(),
        serial: facts.serial,
        not_before: term.not_before,
        not_after: term.not_after,
        leaf_sha256: Bytes::copy_from_slice(&facts.sha256),
        key_sha256: Bytes::copy_from_slice(&pki::fingerprint(public_info)),
        controller: grant.controller.to_owned(),
        reason: grant.reason,
        workload: grant.workload,
        ..IssuanceRecord::default()
    };
    let renew_at = renewal_time(now, term.not_after, rand::random::<f64>());
    Ok(Draft {
        leaf,
        record,
        term,
        renew_at,
    })
}

/// `draw` is in 0..1.
fn renewal_time(now: i64, not_after: i64, draw: f64) -> i64 {
    let part = RENEW_FROM + (RENEW_TO - RENEW_FROM) * draw;
    now + ((not_after - now) as f64 * part) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_spread_over_a_fifth_of_the_life() {
        assert_eq!(1400, renewal_time(1000, 2000, 0.0));
        assert_eq!(1500, renewal_time(1000, 2000, 0.5));
        assert_eq!(1600, renewal_time(1000, 2000, 1.0));
    }
}
