//! Pauses between attempts: exponential with full jitter, so that ten thousand proxies do not come back at once.

use rand::RngExt;
use std::time::Duration;

/// The pauses of one thing that is tried again and again.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    longest: Duration,
    range: Duration,
}

impl Backoff {
    /// The first pause is drawn from 0 to `base`, each further one from twice the range, up to `longest`.
    pub fn new(base: Duration, longest: Duration) -> Self {
        Self {
            base,
            longest,
            range: base,
        }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = rand::rng().random_range(Duration::ZERO..=self.range);
        self.range = (self.range * 2).min(self.longest);
        pause
    }

    /// After a success the pauses are short again.
    pub fn reset(&mut self) {
        self.range = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_are_short_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut longest = Duration::ZERO;
        for attempt in 0..200u32 {
            let pause = backoff.pause();
            let range = Duration::from_millis(100 * 2u64.pow(attempt.min(10)));
            assert!(pause <= range.min(Duration::from_secs(1)));
            longest = longest.max(pause);
        }
        assert!(longest > Duration::from_millis(500), "{longest:?}");
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(100));
    }
}
