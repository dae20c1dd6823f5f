//! What is under way to one cluster, and how much more it takes.

use crate::snapshot::{Limits, RetryBudget};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The cluster takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is at its limit of {limit}")]
pub struct Overloaded {
    what: &'static str,
    limit: u32,
}

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Counts {
    requests: AtomicU32,
    connections: AtomicU32,
    pending: AtomicU32,
    retries: AtomicU32,
}

/// A request or a connection, counted until it is dropped.
#[derive(Debug)]
pub struct Permit {
    counts: Arc<Counts>,
    which: fn(&Counts) -> &AtomicU32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        (self.which)(&self.counts).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A retry, counted from its decision until its end.
#[derive(Debug)]
pub struct RetryPermit {
    _permit: Permit,
}

impl Counts {
    pub(super) fn request(self: &Arc<Self>, limits: &Limits) -> Result<Permit, Overloaded> {
        self.take(
            |counts| &counts.requests,
            limits.max_requests,
            "maxRequests",
        )
    }

    pub(super) fn connection(self: &Arc<Self>, limits: &Limits) -> Result<Permit, Overloaded> {
        self.take(
            |counts| &counts.connections,
            limits.max_connections,
            "maxConnections",
        )
    }

    pub(super) fn pending(self: &Arc<Self>, limits: &Limits) -> Result<Permit, Overloaded> {
        self.take(
            |counts| &counts.pending,
            limits.max_pending_requests,
            "maxPendingRequests",
        )
    }

    /// A part of the requests under way, and a few always.
    pub(super) fn retry(self: &Arc<Self>, budget: &RetryBudget) -> Option<RetryPermit> {
        let active = f64::from(self.requests.load(Ordering::Relaxed));
        let share = (active * budget.percent.clamp(0.0, 100.0) / 100.0).floor();
        // The share of a u32 is never negative and never larger than one.
        let limit = (share as u32).max(budget.min_concurrency);
        let permit = self.take(|counts| &counts.retries, Some(limit), "retries");
        permit.ok().map(|permit| RetryPermit { _permit: permit })
    }

    fn take(
        self: &Arc<Self>,
        which: fn(&Counts) -> &AtomicU32,
        limit: Option<u32>,
        what: &'static str,
    ) -> Result<Permit, Overloaded> {
        let before = which(self).fetch_add(1, Ordering::Relaxed);
        let permit = Permit {
            counts: self.clone(),
            which,
        };
        match limit {
            Some(limit) if before >= limit => Err(Overloaded { what, limit }),
            _ => Ok(permit),
        }
    }
}
