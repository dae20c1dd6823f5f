//! Certifying one caller: who asks, what they may have, the leaf, its record.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use xds_api::join_token::JoinToken;
use xds_api::spiffe::SpiffeId;

use super::{Authority, Standing};
use crate::identity::accounts::{Account, AccountError};
use crate::identity::issue::{self, Grant, IssueError, Issuing};
use crate::identity::request::RequestedKey;
use crate::identity::tokens::{self, TokenError};
use crate::identity::{controller_identity, now};
use crate::model::{State, TokenPurpose};
use crate::pki::Facts;

/// `<namespace>/<workload>`: two DNS labels' worth, generously.
const MAX_WORKLOAD: usize = 320;

/// What a caller sent.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// PKCS#10, DER.
    pub request: &'a [u8],
    /// The join token's text, or empty.
    pub token: &'a str,
    /// A pod's service account token, or empty. Both empty: a renewal.
    pub account_token: &'a str,
    /// The connection's leaf, whose chain was verified in the handshake.
    pub leaf: Option<&'a Facts>,
    /// `<namespace>/<workload>`, for the record; may be empty.
    pub workload: &'a str,
}

/// A certificate that is on record.
#[derive(Debug, Clone)]
pub struct Certified {
    /// Whose.
    pub spiffe_id: String,
    /// The leaf, then the issuing certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// The first second of its life, Unix.
    pub not_before: i64,
    /// The last.
    pub not_after: i64,
    /// When to ask again.
    pub renew_at: i64,
    /// The state that it was made from, with the roots.
    pub state: Arc<State>,
}

/// Why somebody may have an identity.
struct Right {
    spiffe_id: String,
    reason: String,
    token: String,
}

impl Authority {
    /// Makes a leaf for the key in the request and puts it on record.
    ///
    /// # Errors
    /// Whoever asks is nobody, the token or the request is not good, or this controller cannot sign or record now.
    pub async fn certify(&self, asking: Asking<'_>) -> Result<Certified, IssueError> {
        let key = RequestedKey::of(asking.request)?;
        check_workload(asking.workload)?;
        let (right, state) = self.right(asking).await?;
        let issuing = self.issuing()?;
        let grant = Grant {
            spiffe_id: &right.spiffe_id,
            dns: Vec::new(),
            workload: asking.workload.to_owned(),
            reason: right.reason,
            controller: &self.inner.settings.controller,
        };
        let lifetime = self.leaf_lifetime(state.mesh()).as_secs().cast_signed();
        let draft = issue::draft(&issuing, grant, &key, key.public_info(), lifetime, now())?;
        self.inner
            .ledger
            .record(&draft.record, &right.token)
            .await?;
        Ok(Certified {
            spiffe_id: right.spiffe_id,
            chain: vec![draft.leaf, issuing.certificate.clone()],
            not_before: draft.term.not_before,
            not_after: draft.term.not_after,
            renew_at: draft.renew_at,
            state,
        })
    }

    fn issuing(&self) -> Result<Arc<Issuing>, IssueError> {
        self.inner.issuing.load_full().ok_or_else(|| {
            IssueError::NotIssuing(match &*self.inner.standing.borrow() {
                Standing::Sealed(why) => why.clone(),
                _ => "the cluster has no root yet, or this controller is still starting; ask again"
                    .to_owned(),
            })
        })
    }

    async fn right(&self, asking: Asking<'_>) -> Result<(Right, Arc<State>), IssueError> {
        let state = self.inner.agreement.state().borrow().clone();
        if !asking.account_token.is_empty() {
            return self.pod(asking, state).await;
        }
        if asking.token.is_empty() {
            return Ok((renewal(&state, asking.leaf)?, state));
        }
        let token: JoinToken = asking.token.parse().map_err(TokenError::from)?;
        let check = |state: &State| tokens::check(state, &token, TokenPurpose::Workload, now());
        let (granted, state) = match check(&state) {
            // It may have been made a moment ago, at another controller.
            Err(TokenError::Unknown(_)) => {
                let state = self.inner.agreement.read().await?;
                (check(&state)?, state)
            }
            checked => (checked?, state),
        };
        Ok((
            Right {
                spiffe_id: granted,
                reason: format!("token {}", token.id),
                token: token.id,
            },
            state,
        ))
    }
}

impl Authority {
    /// A pod may have its own service account's identity, and no other.
    async fn pod(
        &self,
        asking: Asking<'_>,
        mut state: Arc<State>,
    ) -> Result<(Right, Arc<State>), IssueError> {
        let accounts = self.inner.settings.accounts.as_ref();
        let accounts = accounts.ok_or(AccountError::None)?;
        let account = accounts.review(asking.account_token.to_owned()).await?;
        let Account {
            namespace,
            name,
            pod,
        } = account;
        let proved = format!("{namespace}/{pod}");
        if !asking.workload.is_empty() && asking.workload != proved {
            let claimed = asking.workload.to_owned();
            return Err(AccountError::Another { proved, claimed }.into());
        }
        // Its namespace may have been observed a moment ago, by another controller.
        if !state.mesh().is_of_kubernetes(&namespace) {
            state = self.inner.agreement.read().await?;
        }
        if !state.mesh().is_of_kubernetes(&namespace) {
            return Err(AccountError::Namespace(namespace).into());
        }
        let trust_domain = state.mesh().trust_domain();
        let spiffe_id = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{name}");
        let parsed = spiffe_id.parse::<SpiffeId>();
        parsed.map_err(|error| AccountError::Refused(error.to_string()))?;
        if spiffe_id == controller_identity(trust_domain) {
            let why = "a controller makes its own certificate".to_owned();
            return Err(AccountError::Refused(why).into());
        }
        let right = Right {
            spiffe_id,
            reason: format!("service account of pod {proved}"),
            token: String::new(),
        };
        Ok((right, state))
    }
}

fn renewal(state: &State, leaf: Option<&Facts>) -> Result<Right, IssueError> {
    let leaf = leaf.ok_or(IssueError::Nobody)?;
    let refuse = |reason: String| IssueError::NotRenewable(reason);
    let id = leaf
        .spiffe_id()
        .ok_or_else(|| refuse("it holds no SPIFFE id".to_owned()))?;
    let parsed: SpiffeId = id
        .parse()
        .map_err(|failure: xds_api::spiffe::SpiffeError| refuse(failure.to_string()))?;
    if parsed.trust_domain() != state.mesh().trust_domain() || parsed.service_account().is_none() {
        return Err(refuse(format!("{id} is no workload of this mesh")));
    }
    if id == controller_identity(state.mesh().trust_domain()) {
        return Err(refuse("a controller makes its own".to_owned()));
    }
    // The handshake checked this once; a connection may have outlived its certificate.
    if leaf.term.not_after < now() {
        return Err(refuse(
            "it has expired; connect anew, and with a join token if that fails".to_owned(),
        ));
    }
    Ok(Right {
        spiffe_id: id.to_owned(),
        reason: format!("renewal of {}", leaf.serial),
        token: String::new(),
    })
}

fn check_workload(workload: &str) -> Result<(), IssueError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    if workload.len() <= MAX_WORKLOAD && workload.chars().all(fits) {
        return Ok(());
    }
    Err(IssueError::Workload(MAX_WORKLOAD))
}
