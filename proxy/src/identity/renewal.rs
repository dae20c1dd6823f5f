//! Keeps the workload's certificate alive: loads it, joins, renews in time, follows the roots, and publishes each change.

use super::credentials::{CredentialError, Credentials};
use super::issue::{self, IssueError, JoinFailure, Wanted};
use super::joining::Joining;
use super::key::{KeyError, PrivateKey};
use super::store::Stored;
use crate::controllers::{Backoff, Controllers};
use crate::snapshot::Snapshot;
use crate::supervise::Tasks;
use rustls::pki_types::CertificateDer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tracing::{info, warn};
use xds_api::join_token::JoinToken;

/// Between rounds over all controllers; the first certificate is waited for by people.
const JOIN_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// There are hours left when a renewal is due, and a leader's election is over in a second.
const RENEW_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often one of several workloads that has no way to a certificate looks for another join token: a person waits for it.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// The longest sleep: timers stand still while a host sleeps, the certificate's end does not.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What the identity is made from.
#[derive(Debug)]
pub struct Settings {
    /// Whom to ask.
    pub controllers: Controllers,
    /// For the first certificate.
    pub joining: Joining,
    /// What the trust domain must be. None: what the token or the stored certificate says.
    pub trust_domain: Option<String>,
    /// The namespace that the identity must be of.
    pub namespace: String,
    /// The service account that it must be of. None: whichever the token or the stored certificate names.
    pub service_account: Option<String>,
    /// `<namespace>/<workload>`.
    pub workload: String,
    /// Where it is stored; must exist.
    pub directory: PathBuf,
}

/// There is no way to an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Neither a stored certificate nor a token.
    #[error(
        "there is no certificate in {directory} and no join token; make one with `maille token create` and set joinToken or joinTokenFile"
    )]
    NoToken {
        /// Where was looked.
        directory: PathBuf,
    },
    /// The token or the certificate names somebody else.
    #[error("the {what} is for {identity}; the configuration says {expected}")]
    Mismatch {
        /// `join token` or `stored certificate`.
        what: &'static str,
        /// What it names.
        identity: String,
        /// What the configuration says.
        expected: String,
    },
    /// The token cannot be read.
    #[error("there is no usable join token: {0}")]
    Token(String),
    /// The controllers refuse.
    #[error(transparent)]
    Join(#[from] JoinFailure),
    /// No key can be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The workload's identity as it changes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
    trouble: watch::Receiver<Option<String>>,
}

impl Identity {
    /// What a test puts in force.
    #[cfg(test)]
    pub(crate) fn for_test(credentials: watch::Receiver<Option<Arc<Credentials>>>) -> Self {
        let (_, trouble) = watch::channel(None);
        Self {
            credentials,
            trouble,
        }
    }

    /// The certificate in force as it changes. None: there is none yet.
    pub fn credentials(&self) -> watch::Receiver<Option<Arc<Credentials>>> {
        self.credentials.clone()
    }

    /// The certificate in force.
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.credentials.borrow().clone()
    }

    /// Why there is no certificate, as it changes, where somebody has to do something about it.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }

    /// Waits for the first certificate.
    pub async fn first(&mut self) -> Arc<Credentials> {
        loop {
            if let Some(credentials) = self.credentials.borrow_and_update().clone() {
                return credentials;
            }
            if self.credentials.changed().await.is_err() {
                // The task is gone; the supervisor ends the process.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Loads what is stored and starts the task that keeps it alive. Roots are followed from `snapshots`.
pub fn start(
    settings: Settings,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    tasks: &Tasks,
) -> Result<Identity, IdentityError> {
    let stored = Stored::new(&settings.directory);
    let current = load(&stored, &settings).map(Arc::new);
    if let Joining::Once(token) = &settings.joining {
        wanted(&settings, current.as_deref(), token.as_ref())?;
    }
    let valid = current.clone().filter(|current| now() < current.not_after);
    if let Some(valid) = &valid {
        info!(identity = %valid.identity, not_after = valid.not_after, "a stored certificate is in force");
    }
    let (publish, credentials) = watch::channel(valid);
    let (explain, trouble) = watch::channel(None);
    let keeper = Keeper {
        settings,
        stored,
        publish,
        explain,
        snapshots,
        stopping: tasks.stopping(),
    };
    tasks.vital_or("identity", keeper.keep(current));
    Ok(Identity {
        credentials,
        trouble,
    })
}

fn load(stored: &Stored, settings: &Settings) -> Option<Credentials> {
    let loaded = match stored.load() {
        Ok(loaded) => loaded?,
        Err(error) => {
            warn!(
                error = &error as &dyn std::error::Error,
                "what was stored of the identity is not used"
            );
            return None;
        }
    };
    // Another workload's certificate may lie here after a change of the configuration.
    match check(&loaded.identity, "stored certificate", settings) {
        Ok(_) => Some(loaded),
        Err(error) => {
            warn!(%error, "the stored certificate is not used");
            None
        }
    }
}

fn wanted(
    settings: &Settings,
    current: Option<&Credentials>,
    token: Option<&JoinToken>,
) -> Result<Wanted, IdentityError> {
    let (identity, what) = match (current, token) {
        (Some(current), _) => (current.identity.to_string(), "stored certificate"),
        (None, Some(token)) => (token.spiffe_id.clone(), "join token"),
        (None, None) => {
            let directory = settings.directory.clone();
            return Err(IdentityError::NoToken { directory });
        }
    };
    let trust_domain = check(&identity, what, settings)?;
    Ok(Wanted {
        identity: identity.into(),
        trust_domain: trust_domain.into(),
        workload: settings.workload.clone(),
    })
}

/// The identity must be of the configured namespace, service account and trust domain. Answers the trust domain.
fn check(identity: &str, what: &'static str, settings: &Settings) -> Result<String, IdentityError> {
    let mismatch = |expected: String| IdentityError::Mismatch {
        what,
        identity: identity.to_owned(),
        expected,
    };
    let namespace = &settings.namespace;
    let named = settings.service_account.as_deref();
    let account = named.unwrap_or("<service account>");
    let shape = format!("spiffe://<trust domain>/ns/{namespace}/sa/{account}");
    let rest = identity.strip_prefix("spiffe://");
    let (trust_domain, path) = rest
        .and_then(|rest| rest.split_once('/'))
        .ok_or_else(|| mismatch(shape.clone()))?;
    let account = path.strip_prefix(&format!("ns/{namespace}/sa/"));
    let wrong = |account: &str| {
        account.is_empty() || account.contains('/') || named.is_some_and(|named| named != account)
    };
    if account.is_none_or(wrong) {
        return Err(mismatch(shape));
    }
    match &settings.trust_domain {
        Some(expected) if expected != trust_domain => {
            Err(mismatch(format!("trust domain {expected}")))
        }
        _ => Ok(trust_domain.to_owned()),
    }
}

struct Keeper {
    settings: Settings,
    stored: Stored,
    publish: watch::Sender<Option<Arc<Credentials>>>,
    explain: watch::Sender<Option<String>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stopping: tokio_util::sync::CancellationToken,
}

impl Keeper {
    async fn keep(mut self, current: Option<Arc<Credentials>>) -> Result<(), IdentityError> {
        let stopping = self.stopping.clone();
        tokio::select! {
            () = stopping.cancelled() => Ok(()),
            end = self.work(current) => end,
        }
    }

    async fn work(&mut self, current: Option<Arc<Credentials>>) -> Result<(), IdentityError> {
        let mut current = match current {
            Some(current) => current,
            None => {
                let joined = self.first().await?;
                self.put_in_force(joined)
            }
        };
        loop {
            current = match self.due(&current).await {
                Due::Renewal => self.renew(&current).await?,
                Due::Roots(roots) => self.trust(&current, roots),
            };
        }
    }

    /// Waits until the certificate is to be renewed or the roots have changed.
    async fn due(&mut self, current: &Credentials) -> Due {
        loop {
            let left = u64::try_from(current.renew_at - now()).unwrap_or(0);
            if left == 0 {
                return Due::Renewal;
            }
            let sleep = Duration::from_secs(left).min(LONGEST_SLEEP);
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        // Nobody will tell of roots any more, only time is left.
                        tokio::time::sleep(sleep).await;
                    }
                }
            }
            if let Some(roots) = self.changed_roots(current) {
                return Due::Roots(roots);
            }
        }
    }

    fn changed_roots(&mut self, current: &Credentials) -> Option<Vec<CertificateDer<'static>>> {
        let snapshot = self.snapshots.borrow_and_update();
        let told = snapshot.roots.get(&current.trust_domain)?;
        let roots = told.certificates.iter().cloned().map(CertificateDer::from);
        let roots: Vec<_> = roots.collect();
        (!roots.is_empty() && roots != current.roots).then_some(roots)
    }

    fn trust(
        &self,
        current: &Arc<Credentials>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Arc<Credentials> {
        let mut parts = current.parts();
        parts.roots = roots;
        match Credentials::new(parts) {
            Ok(changed) => {
                info!(roots = changed.roots.len(), "the trust roots have changed");
                self.put_in_force(changed)
            }
            Err(error) => {
                self.report(&error);
                Arc::clone(current)
            }
        }
    }

    fn report(&self, error: &CredentialError) {
        warn!(
            error = error as &dyn std::error::Error,
            "the new trust roots cannot be used; the old ones stay"
        );
    }

    /// The first certificate. Whoever is alone ends where there is no way to it; one of several says why, and waits.
    async fn first(&self) -> Result<Credentials, IdentityError> {
        loop {
            let token = self.settings.joining.token();
            let used = token.as_ref().ok().cloned();
            let error = match self.join(token, None).await {
                Ok(joined) => return Ok(joined),
                Err(error) => error,
            };
            if !self.settings.joining.again() {
                return Err(error);
            }
            self.troubled(&error);
            self.another_token(used).await;
        }
    }

    fn troubled(&self, error: &IdentityError) {
        let report = error as &dyn std::error::Error;
        warn!(
            error = report,
            workload = self.settings.workload,
            "no certificate for this workload; others serve on, and another join token is waited for"
        );
        self.explain.send_replace(Some(error.to_string()));
    }

    /// Until there is another token than the last, or it is time to try that again.
    async fn another_token(&self, last: Option<Option<JoinToken>>) {
        let again = tokio::time::sleep(RENEW_PAUSE.1);
        let changed = async {
            loop {
                tokio::time::sleep(LOOK_PAUSE).await;
                if self
                    .settings
                    .joining
                    .token()
                    .is_ok_and(|now| last.as_ref() != Some(&now))
                {
                    return;
                }
            }
        };
        tokio::select! {
            () = again => {}
            () = changed => {}
        }
    }

    /// Tries every controller again and again, until one issues or all refuse. `current`: what has ended.
    async fn join(
        &self,
        token: Result<Option<JoinToken>, IdentityError>,
        current: Option<&Credentials>,
    ) -> Result<Credentials, IdentityError> {
        let Some(token) = token? else {
            let directory = self.settings.directory.clone();
            return Err(IdentityError::NoToken { directory });
        };
        let wanted = wanted(&self.settings, current, Some(&token))?;
        let key = PrivateKey::generate()?;
        let mut backoff = Backoff::new(JOIN_PAUSE.0, JOIN_PAUSE.1);
        loop {
            match self.join_round(&token, &wanted, &key).await? {
                Some(issued) => return Ok(issued),
                None => tokio::time::sleep(backoff.pause()).await,
            }
        }
    }

    /// Asks every controller once. `None`: nobody has issued, and nobody has said anything final.
    async fn join_round(
        &self,
        token: &JoinToken,
        wanted: &Wanted,
        key: &PrivateKey,
    ) -> Result<Option<Credentials>, JoinFailure> {
        let mut token_refused = None;
        let mut roots_refused = None;
        let mut unreached = false;
        for controller in self.settings.controllers.shuffled() {
            match issue::join(&controller, token, wanted, key).await {
                Ok(issued) => return Ok(Some(issued)),
                Err(IssueError::Join(refusal @ JoinFailure::Token { .. })) => {
                    token_refused = Some(refusal);
                }
                Err(IssueError::Join(refusal)) => roots_refused = Some(refusal),
                Err(error) => {
                    unreached = true;
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "no certificate yet"
                    );
                }
            }
        }
        // One controller may be behind and not know the token yet; one with other roots may be an impostor.
        match (token_refused, roots_refused) {
            (Some(refusal), _) => Err(refusal),
            (None, Some(refusal)) if !unreached => Err(refusal),
            _ => Ok(None),
        }
    }

    /// Asks every controller again and again. An expired certificate that is refused is replaced by joining, if there is a token.
    async fn renew(&self, current: &Arc<Credentials>) -> Result<Arc<Credentials>, IdentityError> {
        let wanted = wanted(&self.settings, Some(current), None)?;
        let mut backoff = Backoff::new(RENEW_PAUSE.0, RENEW_PAUSE.1);
        loop {
            let mut refused = false;
            for controller in self.settings.controllers.shuffled() {
                match issue::renew(&controller, current, &wanted).await {
                    Ok(issued) => return Ok(self.put_in_force(issued)),
                    Err(error) => {
                        refused |= error.refused();
                        let left = current.not_after - now();
                        warn!(
                            error = &error as &dyn std::error::Error,
                            seconds_left = left,
                            "the certificate is not renewed yet"
                        );
                    }
                }
            }
            if now() >= current.not_after {
                self.publish.send_replace(None);
                match self
                    .join(self.settings.joining.token(), Some(current))
                    .await
                {
                    Ok(joined) => return Ok(self.put_in_force(joined)),
                    Err(error) if self.settings.joining.again() => {
                        self.troubled(&error);
                    }
                    // Then only a renewal is left.
                    Err(IdentityError::NoToken { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            if refused {
                // Time may lift it (a restored revocation, a clock), haste will not.
                tokio::time::sleep(RENEW_PAUSE.1).await;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    fn put_in_force(&self, credentials: Credentials) -> Arc<Credentials> {
        self.explain.send_replace(None);
        if let Err(error) = self.stored.save(&credentials) {
            warn!(
                error = &error as &dyn std::error::Error,
                "the certificate is not stored; a restart will need a controller"
            );
        }
        info!(
            identity = %credentials.identity,
            not_after = credentials.not_after,
            renew_at = credentials.renew_at,
            "a certificate is in force"
        );
        let credentials = Arc::new(credentials);
        self.publish.send_replace(Some(Arc::clone(&credentials)));
        credentials
    }
}

/// What is to be done.
enum Due {
    Renewal,
    Roots(Vec<CertificateDer<'static>>),
}

/// Seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
