//! A family of series that cannot grow past its limit.

use super::labels::{Folded, Owned};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use std::sync::{Arc, Mutex, PoisonError};

/// Label sets past the limit share one series, `other`, and are counted.
#[derive(Debug)]
pub(super) struct Bounded<L, M, C = fn() -> M> {
    family: Family<Owned<L>, M, C>,
    /// How many more label sets there may be.
    room: Mutex<usize>,
    folded: Counter,
}

impl<L, M, C> Bounded<L, M, C>
where
    L: Folded,
    M: Clone,
    C: MetricConstructor<M>,
{
    pub(super) fn new(family: Family<Owned<L>, M, C>, limit: usize, folded: Counter) -> Self {
        Self {
            family,
            room: Mutex::new(limit),
            folded,
        }
    }

    /// The metric of `labels`, or the shared one. Takes a lock: keep what it gives.
    pub(super) fn get(&self, labels: &L, workload: Option<&Arc<str>>) -> M {
        let workload = workload.cloned();
        let owned = Owned {
            labels: labels.clone(),
            workload: workload.clone(),
        };
        if let Some(known) = self.family.get(&owned) {
            return known.clone();
        }
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if *room > 0 {
            *room -= 1;
            return self.family.get_or_create_owned(&owned);
        }
        self.folded.inc();
        let labels = labels.folded();
        self.family.get_or_create_owned(&Owned { labels, workload })
    }
}
