//! Renewals on their way to the leader: gathered for a moment, sent as one call, never written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;
use xds_api::maille::v1::LeaseId;

use crate::agreement::Agreement;
use crate::supervise::Stage;

/// How long renewals are gathered: far below a lease, and one call instead of thousands.
const GATHER: Duration = Duration::from_millis(500);
/// Renewals in one call: some megabyte.
const BATCH: usize = 10_000;
/// Renewals that wait: one a registered instance. What comes beyond is refused and comes again a third of a lease later.
const WAITING: usize = 100_000;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Renewals {
    waiting: Arc<Mutex<HashMap<(String, String), u64>>>,
}

impl Renewals {
    /// Starts the task that sends.
    pub(super) fn start(stage: &Stage, agreement: Arc<dyn Agreement>) -> Self {
        let renewals = Self::default();
        stage.vital(
            "lease renewals",
            run(renewals.clone(), agreement, stage.stopping()),
        );
        renewals
    }

    /// Notes that a lease was renewed here. Answers whether there was room.
    pub(super) fn add(&self, namespace: &str, name: &str, generation: u64) -> bool {
        let mut waiting = self
            .waiting
            .lock()
            .expect("no code panics while it holds the renewals");
        let key = (namespace.to_owned(), name.to_owned());
        if waiting.len() >= WAITING && !waiting.contains_key(&key) {
            return false;
        }
        let newest = waiting.entry(key).or_insert(generation);
        *newest = generation.max(*newest);
        true
    }

    fn take(&self) -> Vec<LeaseId> {
        let mut waiting = self
            .waiting
            .lock()
            .expect("no code panics while it holds the renewals");
        let taken = std::mem::take(&mut *waiting);
        taken
            .into_iter()
            .map(|((namespace, name), generation)| LeaseId {
                namespace,
                name,
                generation,
            })
            .collect()
    }
}

async fn run(renewals: Renewals, agreement: Arc<dyn Agreement>, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(GATHER) => {}
        }
        let all = renewals.take();
        for batch in all.chunks(BATCH) {
            if let Err(failure) = agreement.renew_leases(batch.to_vec()).await {
                // They wait for the next round.
                debug!(%failure, count = batch.len(), "renewals did not reach the leader");
                for lease in batch {
                    renewals.add(&lease.namespace, &lease.name, lease.generation);
                }
            }
        }
    }
}
