//! One endpoint: how long it takes, how much it has to do, whether it is left alone.

use super::ejection::Record;
use crate::snapshot::{Endpoint, MeshAddress, Outlier};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What a new endpoint is taken to need: low enough to be tried, high enough not to be flooded at once.
const FIRST_GUESS: Duration = Duration::from_millis(30);
/// What a failure counts as: an endpoint that refuses at once must not look like the fastest one.
const FAILED: Duration = Duration::from_secs(1);
/// After this long a past latency counts a third.
const DECAY: Duration = Duration::from_secs(10);

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
                latency: Mutex::new(PeakEwma::new(start)),
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

    /// Latency times load, for its weight.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        let pending = f64::from(self.learnt.pending.load(Ordering::Relaxed)) + 1.0;
        self.learnt.latency().get(now) * pending / self.weight()
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

/// A moving average that jumps up to a peak and comes down slowly.
#[derive(Debug)]
struct PeakEwma {
    seconds: f64,
    at: Instant,
}

impl PeakEwma {
    fn new(at: Instant) -> Self {
        Self {
            seconds: FIRST_GUESS.as_secs_f64(),
            at,
        }
    }

    /// With no news it decays, so that an endpoint that was slow once is tried again.
    fn get(&self, now: Instant) -> f64 {
        let idle = now.saturating_duration_since(self.at).as_secs_f64();
        // Exact decay costs an exponential a pick; within a second it changes nothing that matters.
        if idle < 1.0 {
            return self.seconds;
        }
        self.seconds * (-idle / DECAY.as_secs_f64()).exp()
    }

    fn add(&mut self, seconds: f64, now: Instant) {
        if seconds > self.seconds {
            self.seconds = seconds;
        } else {
            let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
            let keep = (-elapsed / DECAY.as_secs_f64()).exp();
            self.seconds = self.seconds * keep + seconds * (1.0 - keep);
        }
        self.at = now;
    }
}

/// A picked endpoint, counted as busy until this is dropped.
#[derive(Debug)]
pub struct Lease<T> {
    /// Who was picked.
    pub state: Arc<EndpointState<T>>,
    /// When.
    pub since: Instant,
}

impl<T> Lease<T> {
    pub(super) fn new(state: Arc<EndpointState<T>>, since: Instant) -> Self {
        state.learnt.pending.fetch_add(1, Ordering::Relaxed);
        Self { state, since }
    }

    /// The first byte of the answer is here.
    pub fn answered(&self, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.state.learnt.latency().add(seconds, now);
    }

    /// There will be no answer.
    pub fn failed(&self, now: Instant) {
        let seconds = now
            .saturating_duration_since(self.since)
            .max(FAILED)
            .as_secs_f64();
        self.state.learnt.latency().add(seconds, now);
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        self.state.learnt.pending.fetch_sub(1, Ordering::Relaxed);
    }
}
