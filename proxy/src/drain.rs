//! Draining: whoever has work under way holds a `Work`; a drain tells all of them and waits until they are gone.

use std::time::Duration;
use tokio::sync::watch;

/// Starts the drain.
#[derive(Debug)]
pub struct Drain {
    begun: watch::Sender<bool>,
}

/// Held while work is under way. Cheap to clone; every clone counts.
#[derive(Debug, Clone)]
pub struct Work {
    begun: watch::Receiver<bool>,
}

/// A drain, and the first piece of work, from which the others are cloned.
pub fn channel() -> (Drain, Work) {
    let (sender, receiver) = watch::channel(false);
    (Drain { begun: sender }, Work { begun: receiver })
}

impl Drain {
    /// Tells everyone, and waits until all work is done or the limit is over. Answers how many pieces were left.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.begun.send_replace(true);
        match tokio::time::timeout(limit, self.begun.closed()).await {
            Ok(()) => 0,
            Err(_) => self.begun.receiver_count(),
        }
    }
}

impl Work {
    /// Whether the drain has begun.
    pub fn draining(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits until the drain begins: finish what is under way, take nothing new.
    pub async fn drained(&mut self) {
        // An error means that the `Drain` is gone, and with it the process.
        self.begun.wait_for(|begun| *begun).await.ok();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_drain_waits_for_work_that_is_under_way() {
        let (drain, work) = channel();
        let mut other = work.clone();
        drop(work);
        let task = tokio::spawn(async move {
            other.drained().await;
            assert!(other.draining());
        });
        assert_eq!(drain.drain(Duration::from_secs(5)).await, 0);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_drain_ends_at_its_limit_and_says_what_was_left() {
        let (drain, work) = channel();
        let second = work.clone();
        assert_eq!(drain.drain(Duration::from_millis(5)).await, 2);
        drop((work, second));
    }
}
