//! What the authority does by itself, whenever the state, the leadership or the clock says so. Each step can be repeated.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ISSUER_LIFETIME, ISSUER_RENEWAL, Inner, Standing};
use crate::agreement::AgreementError;
use crate::identity::issue::{self, Grant, IssueError, Issuing};
use crate::identity::root::{self, RootError};
use crate::identity::{controller_identity, now};
use crate::model::{Command, Issuer, Proposal, State};
use crate::pki::{self, Names, P256Key, Purpose, Term};

/// How often the clock is looked at: renewals are hours apart.
const LOOK: Duration = Duration::from_secs(60);
/// After a failure. Also how soon a write that found no leader is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Clocks differ.
const BACKDATE: i64 = 300;

/// A step did not come through.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("the mesh's roots cannot be used: {0}")]
    Trust(String),
    #[error("{0}")]
    Refused(String),
}

impl From<pki::KeyError> for StepError {
    fn from(failure: pki::KeyError) -> Self {
        Self::Root(failure.into())
    }
}

impl From<pki::CertificateError> for StepError {
    fn from(failure: pki::CertificateError) -> Self {
        Self::Root(failure.into())
    }
}

/// What has been done already.
#[derive(Debug, Default)]
struct Done {
    roots_changed_at: u64,
    server_until: i64,
}

pub(super) async fn run(inner: Arc<Inner>, stopping: CancellationToken) {
    let mut states = inner.agreement.state();
    let mut leads = inner.agreement.leads();
    let mut done = Done::default();
    let mut last_failure = String::new();
    loop {
        let state = states.borrow_and_update().clone();
        let leading = *leads.borrow_and_update();
        let pause = match inner.step(&state, leading, &mut done).await {
            Ok(()) => {
                last_failure.clear();
                LOOK
            }
            Err(failure) => {
                inner.tell(&failure, &mut last_failure);
                RETRY
            }
        };
        let revision = state.trust_revision();
        let named = state.cluster_id().to_owned();
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            changed = leads.changed() => if changed.is_err() { return },
            changed = states.wait_for(|state| state.trust_revision() != revision || state.cluster_id() != named) => {
                if changed.is_err() { return }
            }
        }
    }
}

impl Inner {
    async fn step(&self, state: &State, leading: bool, done: &mut Done) -> Result<(), StepError> {
        if state.cluster_id().is_empty() {
            return Ok(());
        }
        if state.trust_revision() == 0 {
            return if leading {
                self.found_root(state).await
            } else {
                Ok(())
            };
        }
        if done.roots_changed_at != state.mesh().roots_changed_at() {
            let roots = state.mesh().roots().iter();
            let roots: Vec<_> = roots
                .map(|root| CertificateDer::from(root.certificate.to_vec()))
                .collect();
            self.server_tls.trust(&roots).map_err(StepError::Trust)?;
            done.roots_changed_at = state.mesh().roots_changed_at();
        }
        if self.issuing_is_due(state) {
            self.renew_issuing(state).await?;
        }
        if now() >= done.server_until {
            done.server_until = self.renew_server(state).await?;
        }
        Ok(())
    }

    /// Two leaders in a row may both try: only the first one's write finds trust at revision 0.
    async fn found_root(&self, state: &State) -> Result<(), StepError> {
        let command = root::found(state, &self.keyring, self.settings.root.as_ref())?;
        let fingerprint = command
            .roots
            .first()
            .map(|root| hex::encode(pki::fingerprint(&root.certificate)));
        let applied = self.propose(Command::SetTrust(command)).await?;
        match applied.accepted() {
            Ok(_) => info!(fingerprint, "the mesh has its root; its key is sealed"),
            Err(refusal) => info!(
                reason = refusal.message,
                "another controller founded the root"
            ),
        }
        Ok(())
    }

    fn issuing_is_due(&self, state: &State) -> bool {
        let Some(issuing) = self.issuing.load_full() else {
            return true;
        };
        let active = state
            .mesh()
            .roots()
            .first()
            .map(|root| pki::fingerprint(&root.certificate));
        now() >= issuing.term.not_before + BACKDATE + ISSUER_RENEWAL || active != Some(issuing.root)
    }

    /// A new key and a new certificate; the old pair is dropped. What the old one issued stays valid: leaves carry their chain.
    async fn renew_issuing(&self, state: &State) -> Result<(), StepError> {
        let key = P256Key::generate()?;
        let term = Term {
            not_before: now() - BACKDATE,
            not_after: now() + ISSUER_LIFETIME,
        };
        let trust_domain = state.mesh().trust_domain();
        let names = Names {
            common_name: format!("Maille issuer {}", self.settings.controller),
            uris: vec![format!("spiffe://{trust_domain}")],
            ..Names::default()
        };
        let (certificate, root) = {
            let root = root::open(state, &self.keyring)?;
            let made = pki::issue(
                &names,
                Purpose::Issuing,
                term,
                &key,
                &root.certificate,
                &root.key,
            )?;
            (made, pki::fingerprint(&root.certificate))
        };
        let serial = pki::parse(&certificate)?.serial;
        let issuer = Issuer {
            serial: serial.clone(),
            controller: self.settings.controller.clone(),
            certificate: Bytes::copy_from_slice(&certificate),
            not_before: term.not_before,
            not_after: term.not_after,
        };
        let applied = self.propose(Command::PutIssuer(issuer)).await?;
        applied
            .accepted()
            .map_err(|refusal| StepError::Refused(refusal.message))?;
        self.issuing.store(Some(Arc::new(Issuing {
            certificate,
            key,
            term,
            root,
        })));
        self.standing.send_replace(Standing::Issuing);
        info!(serial, "this controller issues certificates");
        Ok(())
    }

    /// This controller's own leaf for the xDS port, on record like any other. Answers when it is to be made again.
    async fn renew_server(&self, state: &State) -> Result<i64, StepError> {
        let Some(issuing) = self.issuing.load_full() else {
            return Ok(0);
        };
        let key = P256Key::generate()?;
        let spiffe_id = controller_identity(state.mesh().trust_domain());
        let grant = Grant {
            spiffe_id: &spiffe_id,
            dns: vec![crate::peer_ca::SERVER_NAME.to_owned()],
            workload: format!("maille-system/{}", self.settings.controller),
            reason: "controller".to_owned(),
            controller: &self.settings.controller,
        };
        let lifetime = self.settings.leaf_lifetime.as_secs().cast_signed();
        let draft = issue::draft(&issuing, grant, &key, key.public_info(), lifetime, now())?;
        self.ledger.record(&draft.record, "").await?;
        self.server_tls
            .certificate()
            .set(vec![draft.leaf, issuing.certificate.clone()], key);
        Ok(draft.renew_at)
    }

    async fn propose(&self, command: Command) -> Result<crate::model::Applied, AgreementError> {
        let proposal = Proposal {
            author: format!("controller {}", self.settings.controller),
            client: String::new(),
            sequence: 0,
            time_millis: 0,
            command,
        };
        self.agreement.propose(proposal).await
    }

    /// Once for each new failure: the step is repeated twice a second.
    fn tell(&self, failure: &StepError, last: &mut String) {
        let text = failure.to_string();
        if text == *last {
            return;
        }
        match failure {
            StepError::Root(_) | StepError::Trust(_) => {
                warn!(
                    reason = text,
                    "this controller cannot sign; it stays a member and serves what it has"
                );
                if self.issuing.load().is_none() {
                    self.standing.send_replace(Standing::Sealed(text.clone()));
                }
            }
            _ => info!(reason = text, "the authority waits"),
        }
        *last = text;
    }
}
