//! The table at work: it looks every second while this controller leads, and proposes the ends in batches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use xds_api::maille::v1::LeaseId;

use super::table::{Lease, Table};
use crate::agreement::{Agreement, LeaseSink};
use crate::model::command::{EndInstances, InstanceEnd};
use crate::model::{Command, Name, Proposal};
use crate::supervise::Stage;
use crate::telemetry::Metrics;

/// Between two looks: a fraction of a lease, and cheap at tens of thousands of instances.
const LOOK: Duration = Duration::from_secs(1);
/// Ends in one entry.
const BATCH: usize = 256;

/// The leases at this controller; they count while it leads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Mutex<Table>,
    held: Gauge,
    ended: Counter,
    held_before: AtomicU64,
}

impl Leases {
    /// An empty table with its metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let (held, ended) = (Gauge::default(), Counter::default());
        metrics.register(|registry| {
            let text =
                "Instances whose lease has ended and that are kept because too many ended at once";
            registry.register("leases_held", text, held.clone());
            registry.register(
                "leases_ended",
                "Instances taken out because their lease ended",
                ended.clone(),
            );
        });
        let inner = Inner {
            table: Mutex::default(),
            held,
            ended,
            held_before: AtomicU64::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Watches over the leases until the stage stops.
    pub fn start(&self, stage: &Stage, agreement: Arc<dyn Agreement>, controller: &str) {
        let watch = watch(
            self.clone(),
            agreement,
            format!("controller {controller}"),
            stage.stopping(),
        );
        stage.vital("leases", watch);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.inner
            .table
            .lock()
            .expect("no code panics while it holds the table")
    }

    /// One look. Answers the writes that it calls for.
    fn look(&self, agreement: &dyn Agreement, now: Instant) -> Vec<EndInstances> {
        let state = agreement.state().borrow().clone();
        let found = self.table().look(state.mesh(), now);
        self.inner
            .held
            .set(i64::try_from(found.held).unwrap_or(i64::MAX));
        self.alarm(found.held);
        let ends: Vec<InstanceEnd> = found
            .ended
            .into_iter()
            .map(|lease| InstanceEnd {
                name: lease.name,
                generation: lease.generation,
            })
            .collect();
        ends.chunks(BATCH)
            .map(|ends| EndInstances {
                ends: ends.to_vec(),
            })
            .collect()
    }

    fn alarm(&self, held: usize) {
        let before = self.inner.held_before.swap(held as u64, Ordering::Relaxed);
        match (before, held) {
            (0, 1..) => error!(
                held,
                "too many leases ended at once; the instances are kept. Check that sidecars reach the controllers, and the controllers' clocks"
            ),
            (1.., 0) => info!("leases end one by one again"),
            _ => {}
        }
    }
}

impl LeaseSink for Leases {
    fn renew(&self, leases: &[LeaseId]) -> Vec<LeaseId> {
        let now = Instant::now();
        let mut table = self.table();
        let mut unknown = Vec::new();
        for id in leases {
            let name = Name {
                namespace: id.namespace.clone(),
                name: id.name.clone(),
            };
            let lease = Lease {
                name,
                generation: id.generation,
            };
            if !table.knows(&lease) {
                unknown.push(id.clone());
            }
            table.renew(lease, now);
        }
        unknown
    }
}

async fn watch(
    leases: Leases,
    agreement: Arc<dyn Agreement>,
    author: String,
    stopping: CancellationToken,
) {
    let mut leads = agreement.leads();
    loop {
        leases.table().clear();
        leases.inner.held.set(0);
        tokio::select! {
            () = stopping.cancelled() => return,
            led = leads.wait_for(|leads| *leads) => if led.is_err() { return },
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            lost = leads.wait_for(|leads| !*leads) => if lost.is_err() { return },
            () = lead(&leases, agreement.as_ref(), &author) => {}
        }
    }
}

async fn lead(leases: &Leases, agreement: &dyn Agreement, author: &str) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        for ends in leases.look(agreement, Instant::now()) {
            let count = ends.ends.len() as u64;
            let names: Vec<String> = ends.ends.iter().map(|end| end.name.to_string()).collect();
            let proposal = Proposal {
                author: author.to_owned(),
                client: String::new(),
                sequence: 0,
                time_millis: 0,
                command: Command::EndInstances(ends),
            };
            // What could not be written is found again at the next look.
            match agreement.propose(proposal).await {
                Ok(_) => {
                    leases.inner.ended.inc_by(count);
                    info!(
                        instances = names.join(" "),
                        "leases ended; the instances are out of the mesh"
                    );
                }
                Err(failure) => {
                    warn!(%failure, count, "could not take out instances whose lease has ended")
                }
            }
        }
    }
}
