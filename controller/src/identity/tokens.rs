//! Join tokens: made for one exact identity, good once, known to the cluster only by a hash.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use xds_api::join_token::JoinToken;
use xds_api::spiffe::{SpiffeId, TrustDomain};

use super::{controller_identity, now};
use crate::model::{State, Token, TokenPurpose};
use crate::pki;

/// A secret that nobody guesses.
const SECRET: usize = 32;
/// Unless asked otherwise.
const DEFAULT_LIFETIME: i64 = 3600;
/// A token that lies around for longer is better made anew.
const MAX_LIFETIME: i64 = 30 * 86_400;

/// Why a token is refused. Unknown ids and wrong secrets read alike: the id is no secret, but need not be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text is no token.
    #[error("{0}")]
    Text(#[from] xds_api::join_token::JoinTokenError),
    /// Not known, or not with this secret.
    #[error(
        "the join token {0} is not known here: it was revoked, was forgotten a day after its end, or is another mesh's. Make a new one with `maille token create`"
    )]
    Unknown(String),
    /// Too late.
    #[error("the join token {id} expired {ago} s ago; make a new one with `maille token create`")]
    Expired {
        /// Which.
        id: String,
        /// Since when, seconds.
        ago: i64,
    },
    /// Used before.
    #[error(
        "the join token {id} was used already (by {by}); a token is good once. Make a new one with `maille token create`, and if nobody used it knowingly, revoke that certificate"
    )]
    Used {
        /// Which.
        id: String,
        /// The leaf's serial or the controller's name.
        by: String,
    },
    /// Made for other roots.
    #[error(
        "the join token {0} names other trust roots than this mesh has (wrong roots' hash): it is another mesh's, or older than the last rotation. Make a new one with `maille token create`"
    )]
    Roots(String),
    /// Made for something else.
    #[error(
        "the join token {0} is for a controller, not for a workload; make one with `maille token create` for the workload's service account"
    )]
    NotWorkload(String),
    /// Made for something else.
    #[error(
        "the join token {0} is for a workload, not for a controller; make one with `maille token create --controller`"
    )]
    NotController(String),
    /// What is asked for cannot be granted.
    #[error("{0}")]
    Request(String),
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is for.
    pub purpose: TokenPurpose,
    /// For a workload.
    pub namespace: String,
    /// For a workload.
    pub service_account: String,
    /// 0: an hour.
    pub lifetime_seconds: u32,
}

/// Makes a token: what is proposed, and what is shown once.
pub fn new_token(state: &State, wanted: &NewToken) -> Result<(Token, JoinToken), TokenError> {
    let roots: Vec<[u8; 32]> = state
        .mesh()
        .roots()
        .iter()
        .map(|root| pki::fingerprint(&root.certificate))
        .collect();
    if roots.is_empty() {
        return Err(TokenError::Request(
            "the cluster has no root yet, so nothing could be joined; try again in a second"
                .to_owned(),
        ));
    }
    let lifetime = match i64::from(wanted.lifetime_seconds) {
        0 => DEFAULT_LIFETIME,
        given if given <= MAX_LIFETIME => given,
        given => {
            return Err(TokenError::Request(format!(
                "a lifetime of {given} s is too long; 30 days is the most"
            )));
        }
    };
    let members = state.members().values();
    let controllers = members.map(|member| member.xds_address.clone()).collect();
    let spiffe_id = match wanted.purpose {
        TokenPurpose::Workload => {
            granted_identity(state, &wanted.namespace, &wanted.service_account)?
        }
        TokenPurpose::Controller => String::new(),
        TokenPurpose::Unspecified => {
            return Err(TokenError::Request(
                "say what the token is for: a workload or a controller".to_owned(),
            ));
        }
    };
    let secret: [u8; SECRET] = rand::random();
    let id = hex::encode(rand::random::<[u8; 6]>());
    let token = Token {
        id: id.clone(),
        secret_sha256: Bytes::copy_from_slice(&pki::fingerprint(&secret)),
        purpose: wanted.purpose as i32,
        spiffe_id: spiffe_id.clone(),
        expires_at: now() + lifetime,
        ..Token::default()
    };
    let shown = JoinToken {
        id,
        secret: secret.to_vec(),
        spiffe_id,
        controllers,
        roots_sha256: roots,
    };
    Ok((token, shown))
}

fn granted_identity(
    state: &State,
    namespace: &str,
    service_account: &str,
) -> Result<String, TokenError> {
    let refused = |failure: xds_api::spiffe::SpiffeError| TokenError::Request(failure.to_string());
    let domain: TrustDomain = state.mesh().trust_domain().parse().map_err(refused)?;
    let id = SpiffeId::workload(&domain, namespace, service_account).map_err(refused)?;
    if id.as_str() == controller_identity(domain.as_str()) {
        return Err(TokenError::Request(format!(
            "{id} is the controllers' own identity; choose another namespace or service account"
        )));
    }
    Ok(id.to_string())
}

/// The identity that a token grants (none where it is a controller's), if it is good now. Whether it was used is decided again in `apply`.
pub(super) fn check(
    state: &State,
    shown: &JoinToken,
    purpose: TokenPurpose,
    now: i64,
) -> Result<String, TokenError> {
    let known = state
        .tokens()
        .get(&shown.id)
        .filter(|known| secret_fits(known, shown));
    let known = known.ok_or_else(|| TokenError::Unknown(shown.id.clone()))?;
    if known.purpose() != purpose {
        return Err(match purpose {
            TokenPurpose::Controller => TokenError::NotController(shown.id.clone()),
            _ => TokenError::NotWorkload(shown.id.clone()),
        });
    }
    if known.used_at != 0 {
        return Err(TokenError::Used {
            id: shown.id.clone(),
            by: known.used_by.clone(),
        });
    }
    if known.expires_at <= now {
        return Err(TokenError::Expired {
            id: shown.id.clone(),
            ago: now - known.expires_at,
        });
    }
    let roots = state.mesh().roots();
    let ours = |hash: &[u8; 32]| {
        roots
            .iter()
            .any(|root| pki::fingerprint(&root.certificate) == *hash)
    };
    if !shown.roots_sha256.iter().any(ours) {
        return Err(TokenError::Roots(shown.id.clone()));
    }
    Ok(known.spiffe_id.clone())
}

fn secret_fits(known: &Token, shown: &JoinToken) -> bool {
    verify_slices_are_equal(&known.secret_sha256, &pki::fingerprint(&shown.secret)).is_ok()
}
