//! How the rest of the proxy asks: what holds now, what a name leads to, and how the control plane is.

use super::names::{Asked, Names};
use crate::snapshot::{Directory, Host, Resolution, ResolveFuture, Snapshot};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How the conversation with the control plane stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The controller that serves us. None: there is no stream.
    pub controller: Option<String>,
    /// Why the last stream ended, or the last attempt failed.
    pub last_error: Option<String>,
    /// What we last refused, and why.
    pub last_refusal: Option<String>,
    /// Responses that were taken.
    pub accepted: u64,
    /// Responses that were refused.
    pub refused: u64,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// It exists.
    Found(T),
    /// The control plane says that it does not.
    Missing,
    /// Nobody could say in time.
    Unavailable,
}

/// What is shared between those who ask and the task that talks to the control plane.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) names: Names,
    /// Wakes the task when names have changed.
    pub(super) asked: Notify,
    /// Counts responses; wakes those who wait for one.
    pub(super) answers: watch::Sender<u64>,
}

/// Everything that the control plane tells. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Xds {
    pub(super) shared: Arc<Shared>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Xds {
    pub(super) fn new(publish: watch::Sender<Arc<Snapshot>>) -> Self {
        let snapshots = publish.subscribe();
        let shared = Shared {
            snapshots: publish,
            status: watch::Sender::default(),
            names: Names::default(),
            asked: Notify::new(),
            answers: watch::Sender::default(),
        };
        Self {
            shared: Arc::new(shared),
            snapshots,
        }
    }

    /// How the conversation stands, as it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// How many on-demand names are held.
    pub fn names(&self) -> usize {
        self.shared.names.count()
    }

    /// What DNS answers about `<service>.<namespace>`.
    pub async fn host(&self, name: &str, deadline: Instant) -> Answer<Arc<Host>> {
        let name = format!("host/{name}");
        self.ask(&name, deadline, |snapshot| {
            snapshot.hosts.get(name.as_str()).cloned()
        })
        .await
    }

    /// Looks into the snapshot, asks for the name if it is not there, and waits for the answer.
    async fn ask<T>(
        &self,
        name: &str,
        deadline: Instant,
        find: impl Fn(&Snapshot) -> Option<T>,
    ) -> Answer<T> {
        // Before the first look, so that no answer can come unseen between look and wait.
        let mut answers = self.shared.answers.subscribe();
        loop {
            if let Some(found) = find(&self.snapshots.borrow()) {
                self.shared.names.touch(name);
                return Answer::Found(found);
            }
            match self.shared.names.ask(name) {
                Asked::Now => self.shared.asked.notify_one(),
                Asked::Before => {}
                Asked::Missing => return Answer::Missing,
                Asked::Full => return Answer::Unavailable,
            }
            let answer = tokio::time::timeout_at(deadline, answers.changed()).await;
            if !matches!(answer, Ok(Ok(()))) {
                return Answer::Unavailable;
            }
        }
    }
}

impl Directory for Xds {
    fn snapshots(&self) -> &watch::Receiver<Arc<Snapshot>> {
        &self.snapshots
    }

    fn resolve<'a>(&'a self, name: &'a str, deadline: Instant) -> ResolveFuture<'a> {
        Box::pin(async move {
            let find = |snapshot: &Snapshot| snapshot.listeners.get(name).cloned();
            match self.ask(name, deadline, find).await {
                Answer::Found(listener) => Resolution::Found(listener),
                Answer::Missing => Resolution::Missing,
                Answer::Unavailable => Resolution::Unavailable,
            }
        })
    }
}
