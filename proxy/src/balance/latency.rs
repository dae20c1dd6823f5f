//! How long an endpoint takes: a moving average that jumps up to a peak and comes down slowly (Finagle's and linkerd's peak
//! EWMA). Between answers it decays towards nothing, so that an endpoint that was slow once is tried again.

use std::time::Duration;
use tokio::time::Instant;

/// What an endpoint that has not answered yet is taken to need while it is being tried: high enough not to be flooded.
const FIRST_GUESS: Duration = Duration::from_millis(30);
/// After this long a past latency counts a third.
const DECAY: Duration = Duration::from_secs(10);
/// So many answers make a latency worth remembering for `DECAY`. Fewer are forgotten sooner, in proportion: a first answer
/// has warmed up the application, and one that nobody doubts for half a minute would starve the endpoint.
const SURE: u32 = 10;
/// Up to here the first two terms of the exponential are exact to half a percent, and cost no call.
const LINEAR: f64 = 0.1;

#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    seconds: f64,
    answers: u32,
    /// When the last answer came.
    at: Option<Instant>,
}

impl PeakEwma {
    /// What the next request may take, in seconds. `busy`: requests are under way. Who has never answered is tried first.
    pub(super) fn get(&self, now: Instant, busy: bool) -> f64 {
        match self.at {
            Some(at) => self.seconds * self.kept(at, now),
            None if busy => FIRST_GUESS.as_secs_f64(),
            None => 0.0,
        }
    }

    pub(super) fn add(&mut self, seconds: f64, now: Instant) {
        self.seconds = match self.at {
            Some(at) if seconds < self.seconds => {
                let kept = self.kept(at, now);
                self.seconds * kept + seconds * (1.0 - kept)
            }
            _ => seconds,
        };
        self.answers = (self.answers + 1).min(SURE);
        self.at = Some(now);
    }

    /// The part of a past latency that still counts.
    fn kept(&self, at: Instant, now: Instant) -> f64 {
        let memory = DECAY.as_secs_f64() * f64::from(self.answers) / f64::from(SURE);
        let age = now.saturating_duration_since(at).as_secs_f64() / memory;
        if age < LINEAR {
            1.0 - age
        } else {
            (-age).exp()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// After `answers` of one second and a pause.
    fn after(answers: u32, pause: Duration) -> f64 {
        let (mut latency, now) = (PeakEwma::default(), Instant::now());
        (0..answers).for_each(|_| latency.add(1.0, now));
        latency.get(now + pause, false)
    }

    #[test]
    fn a_latency_decays_and_a_first_one_soon() {
        assert!((0.989..0.991).contains(&after(10, SECOND / 10)));
        assert!((0.36..0.37).contains(&after(10, 10 * SECOND)));
        assert!((0.36..0.37).contains(&after(1, SECOND)));
        assert!(after(1, 6 * SECOND) < 0.003);
    }

    #[test]
    fn a_peak_counts_at_once_and_a_better_answer_by_and_by() {
        let (mut latency, now) = (PeakEwma::default(), Instant::now());
        assert_eq!(latency.get(now, false), 0.0);
        assert_eq!(latency.get(now, true), FIRST_GUESS.as_secs_f64());
        (0..SURE).for_each(|_| latency.add(0.01, now));
        latency.add(1.0, now);
        assert_eq!(latency.get(now, true), 1.0);
        latency.add(0.01, now + SECOND);
        let later = latency.get(now + SECOND, true);
        assert!((0.90..0.92).contains(&later), "{later}");
    }
}
