//! A family of series that cannot grow past its limit.

use super::labels::Folded;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use std::sync::{Mutex, PoisonError};

/// Label sets past the limit share one series, `other`, and are counted.
#[derive(Debug)]
pub(super) struct Bounded<L, M, C = fn() -> M> {
    family: Family<L, M, C>,
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
    pub(super) fn new(family: Family<L, M, C>, limit: usize, folded: Counter) -> Self {
        Self {
            family,
            room: Mutex::new(limit),
            folded,
        }
    }

    /// The metric of `labels`, or the shared one. Takes a lock: keep what it gives.
    pub(super) fn get(&self, labels: &L) -> M {
        if let Some(known) = self.family.get(labels) {
            return known.clone();
        }
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if *room > 0 {
            *room -= 1;
            return self.family.get_or_create_owned(labels);
        }
        self.folded.inc();
        self.family.get_or_create_owned(&labels.folded())
    }
}
