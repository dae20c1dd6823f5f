//! Which endpoint gets a request or a connection. What is learnt of an endpoint survives every change of the snapshot.

mod ejection;
mod endpoint;
mod hashing;
mod latency;
mod limits;
mod tiers;

pub use endpoint::{EndpointState, Lease, Outcome};
pub use hashing::hash;
pub use limits::{Overloaded, Permit, RetryPermit};

use crate::snapshot::{Balancing, Cluster, Endpoint, Endpoints, Health, Locality};
use arc_swap::ArcSwap;
use hashing::Table;
use limits::Counts;
use prometheus_client::metrics::counter::Counter;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tiers::Tiers;
use tokio::time::Instant;

/// One cluster's endpoints and what is known of them. `T` is what the caller keeps with each endpoint: its connections.
#[derive(Debug)]
pub struct Balancer<T> {
    state: ArcSwap<State<T>>,
    counts: Arc<Counts>,
    turn: AtomicUsize,
    ejections: Counter,
    here: Locality,
}

#[derive(Debug)]
struct State<T> {
    cluster: Arc<Cluster>,
    source: Arc<Endpoints>,
    endpoints: Vec<Arc<EndpointState<T>>>,
    tiers: Tiers,
    table: Option<Table>,
}

impl<T> Balancer<T> {
    /// A balancer of a workload that stands at `here`. `make` gives what is kept with an endpoint.
    pub fn new(
        cluster: Arc<Cluster>,
        source: Arc<Endpoints>,
        here: Locality,
        ejections: Counter,
        make: impl Fn(&Endpoint) -> T,
    ) -> Self {
        let state = State::new(cluster, source, &here, &HashMap::new(), make);
        Self {
            state: ArcSwap::from_pointee(state),
            counts: Arc::default(),
            turn: AtomicUsize::new(0),
            ejections,
            here,
        }
    }

    /// Takes over what the snapshot says now. Cheap where nothing changed.
    pub fn refresh(
        &self,
        cluster: &Arc<Cluster>,
        source: &Arc<Endpoints>,
        make: impl Fn(&Endpoint) -> T,
    ) {
        let state = self.state.load();
        if Arc::ptr_eq(&state.cluster, cluster) && Arc::ptr_eq(&state.source, source) {
            return;
        }
        let known = state
            .endpoints
            .iter()
            .map(|known| (known.key(), known.clone()))
            .collect();
        let next = State::new(cluster.clone(), source.clone(), &self.here, &known, make);
        self.state.store(Arc::new(next));
    }

    /// The cluster as it is now.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.state.load().cluster.clone()
    }

    /// Picks an endpoint, not one of `tried` where there is another. None: there is no endpoint at all.
    /// `key` is what a hashing balancer hashes.
    pub fn pick(
        &self,
        now: Instant,
        key: u64,
        tried: &[Arc<EndpointState<T>>],
    ) -> Option<Lease<T>> {
        let state = self.state.load();
        let endpoints = &state.endpoints;
        let usable =
            |index: usize| !endpoints[index].ejected(now) && !contains(tried, &endpoints[index]);
        if let Some(table) = &state.table {
            let index = table
                .pick(key, usable)
                .or_else(|| table.pick(key, |_| true))?;
            return Some(Lease::new(endpoints[index].clone(), now));
        }
        let random = rand::random::<u64>();
        // Nothing healthy is left: rather any endpoint than none, else one bad moment of all is made an outage.
        let tier = state
            .tiers
            .choose(random, |index| !endpoints[index].ejected(now))
            .unwrap_or_else(|| state.tiers.all());
        let index = match state.cluster.balancing {
            Balancing::RoundRobin => self.in_turn(tier, usable),
            Balancing::LeastRequest => two_choices(tier, usable, |one, other| {
                endpoints[one].requests() < endpoints[other].requests()
            }),
            _ => two_choices(tier, usable, |one, other| {
                endpoints[one].cheaper_than(&endpoints[other], now)
            }),
        };
        let any = || {
            tier.get(usize::try_from(random).unwrap_or(0) % tier.len().max(1))
                .copied()
        };
        let index = index.or_else(any)?;
        Some(Lease::new(endpoints[index].clone(), now))
    }

    fn in_turn(&self, tier: &[usize], usable: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..tier.len())
            .map(|step| tier[start.wrapping_add(step) % tier.len()])
            .find(|index| usable(*index))
    }

    /// Whether there is an endpoint beside those of `tried`.
    pub fn has_other(&self, tried: &[Arc<EndpointState<T>>]) -> bool {
        let state = self.state.load();
        state
            .endpoints
            .iter()
            .any(|endpoint| !contains(tried, endpoint))
    }

    /// Says how a request or connection to a picked endpoint went.
    pub fn report(&self, endpoint: &EndpointState<T>, outcome: Outcome, now: Instant) {
        let state = self.state.load();
        let Some(outlier) = &state.cluster.outlier else {
            return;
        };
        let out = || {
            state
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.ejected(now))
                .count()
        };
        let room = || ejection::room(outlier, state.endpoints.len(), out());
        if endpoint.judge(outlier, outcome, now, room) {
            self.ejections.inc();
            tracing::info!(
                cluster = &*state.cluster.name,
                endpoint = %endpoint.endpoint.address,
                "ejected after failures"
            );
        }
    }

    /// Counts a request, if the cluster takes one more.
    pub fn request(&self) -> Result<Permit, Overloaded> {
        self.counts.request(&self.state.load().cluster.limits)
    }

    /// Counts a connection, if the cluster takes one more.
    pub fn connection(&self) -> Result<Permit, Overloaded> {
        self.counts.connection(&self.state.load().cluster.limits)
    }

    /// Counts a request that waits for a connection, if one more may.
    pub fn pending(&self) -> Result<Permit, Overloaded> {
        self.counts.pending(&self.state.load().cluster.limits)
    }

    /// Counts a retry, if the budget has room.
    pub fn retry(&self) -> Option<RetryPermit> {
        self.counts
            .retry(&self.state.load().cluster.limits.retry_budget)
    }
}

fn contains<T>(tried: &[Arc<EndpointState<T>>], endpoint: &Arc<EndpointState<T>>) -> bool {
    tried.iter().any(|one| Arc::ptr_eq(one, endpoint))
}

/// The cheaper of two usable endpoints drawn at random (Mitzenmacher, "The Power of Two Choices").
fn two_choices(
    tier: &[usize],
    usable: impl Fn(usize) -> bool,
    cheaper: impl Fn(usize, usize) -> bool,
) -> Option<usize> {
    let count = tier.len();
    if count == 0 {
        return None;
    }
    let random = rand::random::<u64>();
    let first = usize::try_from(random >> 32).unwrap_or(0) % count;
    let first = from(tier, first, &usable)?;
    if count == 1 {
        return Some(tier[first]);
    }
    let step = 1 + usize::try_from(random & 0xffff_ffff).unwrap_or(0) % (count - 1);
    let second = from(tier, (first + step) % count, &usable)?;
    let (first, second) = (tier[first], tier[second]);
    Some(if cheaper(second, first) {
        second
    } else {
        first
    })
}

/// The first usable place at or after `start`.
fn from(tier: &[usize], start: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
    (0..tier.len())
        .map(|step| (start + step) % tier.len())
        .find(|place| usable(tier[*place]))
}

impl<T> State<T> {
    fn new(
        cluster: Arc<Cluster>,
        source: Arc<Endpoints>,
        here: &Locality,
        known: &HashMap<endpoint::Key, Arc<EndpointState<T>>>,
        make: impl Fn(&Endpoint) -> T,
    ) -> Self {
        let state = |endpoint: &Endpoint| match known.get(&endpoint::key(endpoint)) {
            Some(known) => known.again(endpoint),
            None => Arc::new(EndpointState::new(endpoint.clone(), make(endpoint))),
        };
        let healthy = |endpoint: &&Endpoint| endpoint.health == Health::Healthy;
        let mut served: Vec<_> = source.endpoints.iter().filter(healthy).map(state).collect();
        if served.is_empty() {
            served = source.endpoints.iter().map(state).collect();
        }
        let tiers = Tiers::new(served.iter().map(|state| &state.endpoint.locality), here);
        let table = match cluster.balancing {
            Balancing::RingHash(_) => Some(Table::ring(&served)),
            Balancing::Maglev(_) => Some(Table::maglev(&served)),
            _ => None,
        };
        Self {
            cluster,
            source,
            endpoints: served,
            tiers,
            table,
        }
    }
}

#[cfg(test)]
mod tests;
