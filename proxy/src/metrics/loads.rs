//! What is counted for load reports: calls by cluster and locality, as counts since they were last taken. A call's counters are looked up once an endpoint.

use crate::snapshot::Locality;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Clusters that are counted: twice what the control plane lets a proxy hold, as those that have gone are forgotten only when their counts were taken.
/// Of what is beyond nothing is reported.
const CLUSTERS: usize = 4_096;
/// Localities of a cluster; a mesh has a handful.
const LOCALITIES: usize = 64;

/// Every cluster's counters. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Loads(Arc<Mutex<HashMap<Arc<str>, Arc<ClusterLoad>>>>);

/// Calls to one cluster.
#[derive(Debug, Default)]
pub struct ClusterLoad {
    dropped: AtomicU64,
    localities: Mutex<HashMap<Locality, Arc<Load>>>,
}

/// Calls to the endpoints of one locality.
#[derive(Debug, Default)]
pub struct Load {
    issued: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    in_progress: AtomicU64,
    timed: AtomicU64,
    nanos: AtomicU64,
    opened: AtomicU64,
    unopened: AtomicU64,
    open: AtomicU64,
}

/// What was counted of a locality since it was last taken; what is in progress or open is so now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, each try for itself.
    pub issued: u64,
    /// Answered, and not with a failure of the server's.
    pub succeeded: u64,
    /// Answered with one, or not at all.
    pub failed: u64,
    /// Under way.
    pub in_progress: u64,
    /// Requests whose answer has begun.
    pub timed: u64,
    /// How long those took to, together.
    pub time: Duration,
    /// Opaque connections that were opened.
    pub opened: u64,
    /// Those that could not be.
    pub unopened: u64,
    /// Those that are open.
    pub open: u64,
}

/// What was counted of a cluster since it was last taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterCounts {
    /// Its name.
    pub name: Arc<str>,
    /// Requests that were not even sent, since the cluster's limits were reached.
    pub dropped: u64,
    /// Where there was any.
    pub localities: Vec<(Locality, Counts)>,
}

impl Loads {
    /// The counters of a cluster.
    pub fn cluster(&self, name: &Arc<str>) -> Arc<ClusterLoad> {
        let mut clusters = self.clusters();
        if let Some(known) = clusters.get(name) {
            return known.clone();
        }
        let new = Arc::<ClusterLoad>::default();
        if clusters.len() < CLUSTERS {
            clusters.insert(name.clone(), new.clone());
        }
        new
    }

    /// Takes what was counted, where anything was, by cluster. Forgets clusters that nobody calls any more.
    pub fn take(&self) -> Vec<ClusterCounts> {
        let mut taken = Vec::new();
        self.clusters().retain(|name, cluster| {
            // Whoever calls it holds it, or one of its localities.
            let held = Arc::strong_count(cluster) > 1;
            let (counts, called) = cluster.take(name);
            if counts.dropped > 0 || !counts.localities.is_empty() {
                taken.push(counts);
            }
            held || called
        });
        taken.sort_by(|one, other| one.name.cmp(&other.name));
        taken
    }

    fn clusters(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<ClusterLoad>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClusterLoad {
    /// A request was not even sent.
    pub fn dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    /// The counters of the endpoints of a locality.
    pub fn locality(&self, locality: &Locality) -> Arc<Load> {
        let mut localities = self.localities();
        if let Some(known) = localities.get(locality) {
            return known.clone();
        }
        let new = Arc::<Load>::default();
        if localities.len() < LOCALITIES {
            localities.insert(locality.clone(), new.clone());
        }
        new
    }

    /// What was counted, and whether anybody still calls.
    fn take(&self, name: &Arc<str>) -> (ClusterCounts, bool) {
        let mut counts = ClusterCounts {
            name: name.clone(),
            dropped: self.dropped.swap(0, Relaxed),
            localities: Vec::new(),
        };
        let mut localities = self.localities();
        localities.retain(|locality, load| {
            let held = Arc::strong_count(load) > 1;
            let taken = load.take();
            if taken != Counts::default() {
                counts.localities.push((locality.clone(), taken));
            }
            held
        });
        (counts, !localities.is_empty())
    }

    fn localities(&self) -> MutexGuard<'_, HashMap<Locality, Arc<Load>>> {
        self.localities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// An opaque connection is open, until the value is dropped.
    pub fn opened(self: &Arc<Self>) -> Opened {
        self.opened.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        Opened(self.clone())
    }

    /// An opaque connection could not be opened.
    pub fn unopened(&self) {
        self.unopened.fetch_add(1, Relaxed);
    }

    fn take(&self) -> Counts {
        let taken = |count: &AtomicU64| count.swap(0, Relaxed);
        Counts {
            issued: taken(&self.issued),
            succeeded: taken(&self.succeeded),
            failed: taken(&self.failed),
            in_progress: self.in_progress.load(Relaxed),
            timed: taken(&self.timed),
            time: Duration::from_nanos(taken(&self.nanos)),
            opened: taken(&self.opened),
            unopened: taken(&self.unopened),
            open: self.open.load(Relaxed),
        }
    }
}

/// An opaque connection, counted as open until this is dropped.
#[derive(Debug)]
pub struct Opened(Arc<Load>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// One try of a request, in progress until this is dropped. What nothing was said of has failed: nobody got an answer.
#[derive(Debug)]
pub struct Flight {
    load: Arc<Load>,
    began: Instant,
    succeeded: bool,
}

impl Flight {
    /// It begins.
    pub fn begin(load: &Arc<Load>, now: Instant) -> Self {
        load.issued.fetch_add(1, Relaxed);
        load.in_progress.fetch_add(1, Relaxed);
        Self {
            load: load.clone(),
            began: now,
            succeeded: false,
        }
    }

    /// The head of the answer is there, and says whether it succeeds.
    pub fn answered(&mut self, now: Instant, succeeds: bool) {
        let took = now.saturating_duration_since(self.began).as_nanos();
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        self.load.timed.fetch_add(1, Relaxed);
        self.load.nanos.fetch_add(took, Relaxed);
        self.succeeded = succeeds;
    }

    /// The rest of the answer says that it has failed all the same.
    pub fn failed(&mut self) {
        self.succeeded = false;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.load.in_progress.fetch_sub(1, Relaxed);
        let count = match self.succeeded {
            true => &self.load.succeeded,
            false => &self.load.failed,
        };
        count.fetch_add(1, Relaxed);
    }
}

/// Whether a gRPC status is the server's failure: those that Envoy counts, as their HTTP statuses are 5xx.
pub fn is_failure(grpc_status: u32) -> bool {
    // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS; and what gRPC has no name for is UNKNOWN.
    matches!(grpc_status, 2 | 4 | 12..=15 | 17..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_taken_once_and_what_is_under_way_stays() {
        let loads = Loads::default();
        let name: Arc<str> = "demo/web:80".into();
        let cluster = loads.cluster(&name);
        let load = cluster.locality(&Locality::default());
        let now = Instant::now();
        let mut good = Flight::begin(&load, now);
        good.answered(now + Duration::from_millis(3), true);
        let mut late = Flight::begin(&load, now);
        late.answered(now + Duration::from_millis(4), true);
        late.failed();
        let (unanswered, waiting) = (Flight::begin(&load, now), Flight::begin(&load, now));
        drop((good, late, unanswered));
        let opened = load.opened();
        load.unopened();
        cluster.dropped();
        let counts = Counts {
            issued: 4,
            succeeded: 1,
            failed: 2,
            in_progress: 1,
            timed: 2,
            time: Duration::from_millis(7),
            opened: 1,
            unopened: 1,
            open: 1,
        };
        let expected = |dropped, counts| ClusterCounts {
            name: name.clone(),
            dropped,
            localities: vec![(Locality::default(), counts)],
        };
        assert_eq!(loads.take(), [expected(1, counts)]);
        let rest = Counts {
            in_progress: 1,
            open: 1,
            ..Counts::default()
        };
        assert_eq!(loads.take(), [expected(0, rest)]);
        drop((waiting, opened));
        let last = Counts {
            failed: 1,
            ..Counts::default()
        };
        assert_eq!(loads.take(), [expected(0, last)]);
        assert_eq!(loads.take(), []);
    }

    #[test]
    fn a_cluster_that_nobody_calls_any_more_is_forgotten_once_its_counts_were_taken() {
        let loads = Loads::default();
        let load = loads
            .cluster(&"demo/web:80".into())
            .locality(&Locality::default());
        loads.take();
        let flight = Flight::begin(&load, Instant::now());
        drop((flight, load));
        assert_eq!(loads.take().len(), 1);
        assert_eq!(loads.clusters().len(), 0);
    }

    #[test]
    fn there_are_no_more_than_so_many() {
        let loads = Loads::default();
        let all: Vec<_> = (0..CLUSTERS + 1)
            .map(|number| loads.cluster(&number.to_string().into()))
            .collect();
        all.iter().for_each(|cluster| cluster.dropped());
        assert_eq!(loads.take().len(), CLUSTERS);
    }

    #[test]
    fn a_status_of_the_clients_making_is_no_failure() {
        let failures: Vec<u32> = (0..20).filter(|status| is_failure(*status)).collect();
        assert_eq!(failures, [2, 4, 12, 13, 14, 15, 17, 18, 19]);
    }
}
