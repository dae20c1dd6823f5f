//! Passive ejection: an endpoint that fails several times in a row is left alone, each time for longer.

use super::Outcome;
use crate::snapshot::Outlier;
use std::time::Duration;
use tokio::time::Instant;

/// What counts against one endpoint.
#[derive(Debug, Default)]
pub(super) struct Record {
    failures: u32,
    gateway_failures: u32,
    /// How often in a row it was ejected; the next time is so much longer.
    ejections: u32,
    /// When `ejections` was last counted up or down.
    changed: Option<Instant>,
}

impl Record {
    /// Counts an outcome; says for how long the endpoint is ejected now, if it is.
    pub(super) fn judge(
        &mut self,
        outlier: &Outlier,
        outcome: Outcome,
        now: Instant,
        ejected: bool,
        room: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        self.forgive(outlier, now, ejected);
        match outcome {
            Outcome::Success => {
                self.failures = 0;
                self.gateway_failures = 0;
                return None;
            }
            Outcome::ServerError => {
                self.failures = self.failures.saturating_add(1);
                self.gateway_failures = 0;
            }
            Outcome::GatewayFailure => {
                self.failures = self.failures.saturating_add(1);
                self.gateway_failures = self.gateway_failures.saturating_add(1);
            }
        }
        let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
        let enough = reached(self.failures, outlier.consecutive_5xx)
            || reached(self.gateway_failures, outlier.consecutive_gateway_failure);
        if !enough || ejected || !room() {
            return None;
        }
        self.failures = 0;
        self.gateway_failures = 0;
        self.ejections = self.ejections.saturating_add(1);
        let time = outlier.base_ejection_time.saturating_mul(self.ejections);
        let time = time.min(outlier.max_ejection_time.max(outlier.base_ejection_time));
        self.changed = Some(now + time);
        Some(time)
    }

    /// Every interval without an ejection makes the next one shorter again.
    fn forgive(&mut self, outlier: &Outlier, now: Instant, ejected: bool) {
        let Some(changed) = self.changed.filter(|_| !ejected && self.ejections > 0) else {
            return;
        };
        let interval = outlier.interval.max(Duration::from_millis(1));
        let quiet = now.saturating_duration_since(changed);
        let intervals = u32::try_from(quiet.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        if intervals > 0 {
            self.ejections = self.ejections.saturating_sub(intervals);
            self.changed = Some(now);
        }
    }
}

/// Whether one more of `all` may be ejected while `out` are. One always may, unless the limit is 0 percent.
pub(super) fn room(outlier: &Outlier, all: usize, out: usize) -> bool {
    let percent = usize::try_from(outlier.max_ejection_percent.min(100)).unwrap_or(100);
    percent > 0 && (out == 0 || (out + 1) * 100 <= all * percent)
}
