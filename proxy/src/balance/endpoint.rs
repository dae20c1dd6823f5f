//! One endpoint: how long it takes, how much it has to do, whether it is left alone.

use super::ejection::Record;
use super::latency::PeakEwma;
use crate::snapshot::{Endpoint, MeshAddress, Outlier};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What a failure counts as: an endpoint that refuses at once must not look like the fastest one.
const FAILED: Duration = Duration::from_secs(1);
/// Latencies less than so many times apart are the same: on one machine the scheduler alone makes such a difference.
const SAME: f64 = 2.0;

/// What makes an endpoint the same one in the next snapshot.
pub(super) type Key = (SocketAddr, Option<MeshAddress>);

pub(super) fn key(endpoint: &Endpoint) -> Key {
    (endpoint.address, endpoint.mesh.clone())
}

/// How a request or a connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, and not with a 5xx.
    Success,
    /// It was answered with a 5xx other than 502, 503, 504.
    ServerError,
    /// It was answered with 502, 503, 504, or not at all.
    GatewayFailure,
}

/// An endpoint and what is known of it.
#[derive(Debug)]
pub struct EndpointState<T> {
    /// As the snapshot has it.
    pub endpoint: Endpoint,
    /// What the caller keeps with it.
    pub kept: Arc<T>,
    learnt: Arc<Learnt>,
}

/// What outlives a change of the endpoint's other properties.
#[derive(Debug)]
struct Learnt {
    pending: AtomicU32,
    latency: Mutex<PeakEwma>,
    record: Mutex<Record>,
    /// Nanoseconds after `start` until which it is ejected.
    ejected_until: AtomicU64,
    start: Instant,
}

impl<T> EndpointState<T> {
    pub(super) fn new(endpoint: Endpoint, kept: T) -> Self {
        let start = Instant::now();
        Self {
            endpoint,
            kept: Arc::new(kept),
            learnt: Arc::new(Learnt {
                pending: AtomicU32::new(0),
                latency: Mutex::default(),
                record: Mutex::default(),
                ejected_until: AtomicU64::new(0),
                start,
            }),
        }
    }

    /// The same endpoint as a later snapshot has it.
    pub(super) fn again(self: &Arc<Self>, endpoint: &Endpoint) -> Arc<Self> {
        if self.endpoint == *endpoint {
            return self.clone();
        }
        Arc::new(Self {
            endpoint: endpoint.clone(),
            kept: self.kept.clone(),
            learnt: self.learnt.clone(),
        })
    }

    pub(super) fn key(&self) -> Key {
        key(&self.endpoint)
    }

    pub(super) fn ejected(&self, now: Instant) -> bool {
        let until = self.learnt.ejected_until.load(Ordering::Relaxed);
        until != 0 && self.learnt.nanos(now) < until
    }

    fn weight(&self) -> f64 {
        f64::from(self.endpoint.weight.max(1))
    }

    /// Requests under way, for its weight.
    pub(super) fn requests(&self) -> f64 {
        f64::from(self.learnt.pending.load(Ordering::Relaxed)) / self.weight()
    }

    /// Whether it is the better one of two: latency times load decides, or load alone where both are about as fast.
    pub(super) fn cheaper_than(&self, other: &Self, now: Instant) -> bool {
        let ((latency, load), (theirs, their_load)) = (self.cost(now), other.cost(now));
        if latency < theirs * SAME && theirs < latency * SAME {
            return load < their_load;
        }
        latency * load < theirs * their_load
    }

    /// How long it takes, and what it has to do with one request more, for its weight.
    fn cost(&self, now: Instant) -> (f64, f64) {
        let pending = self.learnt.pending.load(Ordering::Relaxed);
        let latency = self.learnt.latency().get(now, pending > 0);
        (latency, (f64::from(pending) + 1.0) / self.weight())
    }

    #[cfg(test)]
    pub(super) fn latency(&self, now: Instant) -> f64 {
        self.cost(now).0
    }

    /// Counts the outcome; true where it is ejected now.
    pub(super) fn judge(
        &self,
        outlier: &Outlier,
        outcome: Outcome,
        now: Instant,
        room: impl FnOnce() -> bool,
    ) -> bool {
        let record = &self.learnt.record;
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(time) = record.judge(outlier, outcome, now, self.ejected(now), room) else {
            return false;
        };
        let until = self.learnt.nanos(now + time);
        self.learnt
            .ejected_until
            .store(until.max(1), Ordering::Relaxed);
        true
    }
}

impl Learnt {
    fn latency(&self) -> std::sync::MutexGuard<'_, PeakEwma> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

/// A picked endpoint, counted as busy until this is dropped.
#[derive(Debug)]
pub struct Lease<T> {
    /// Who was picked.
    pub state: Arc<EndpointState<T>>,
    since: Instant,
    /// Nanoseconds after `since` that it took to connect.
    connecting: AtomicU64,
}

impl<T> Lease<T> {
    pub(super) fn new(state: Arc<EndpointState<T>>, since: Instant) -> Self {
        state.learnt.pending.fetch_add(1, Ordering::Relaxed);
        Self {
            state,
            since,
            connecting: AtomicU64::new(0),
        }
    }

    /// There is a connection now. That the first request had to wait for it says nothing of the next ones.
    pub fn connected(&self, now: Instant) {
        let waited = now.saturating_duration_since(self.since).as_nanos();
        let waited = u64::try_from(waited).unwrap_or(u64::MAX);
        self.connecting.store(waited, Ordering::Relaxed);
    }

    /// The first byte of the answer is here.
    pub fn answered(&self, now: Instant) {
        self.learn(self.took(now), now);
    }

    /// There will be no answer.
    pub fn failed(&self, now: Instant) {
        self.learn(self.took(now).max(FAILED), now);
    }

    fn took(&self, now: Instant) -> Duration {
        let connecting = Duration::from_nanos(self.connecting.load(Ordering::Relaxed));
        now.saturating_duration_since(self.since)
            .saturating_sub(connecting)
    }

    fn learn(&self, took: Duration, now: Instant) {
        self.state.learnt.latency().add(took.as_secs_f64(), now);
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        self.state.learnt.pending.fetch_sub(1, Ordering::Relaxed);
    }
}
