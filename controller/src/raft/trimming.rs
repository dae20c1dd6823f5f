//! How much of the log stays behind the newest snapshot.
//!
//! Every member cuts its own log, in the rounds of its duties. openraft's own rule knows the snapshot alone, and then a peer that needs a snapshot
//! can be chased for ever: while it takes one in, the entries after it are cut, and it needs the next. So a leader keeps, beside `keep`, what a
//! peer that was heard of lately still needs, unless the log has grown too long.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Raft;
use super::core::Core;
use super::status::answered_within;
use super::types::NodeId;

/// A log that takes more is snapshotted and cut, whatever the number of its entries and whoever needs them.
const LOG_BYTES: u64 = 192 << 20;
/// A peer that has been silent for longer holds nothing up. One that takes a large snapshot in, or replays what came after it, is silent for seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A peer that was heard of lately, as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Follower {
    id: NodeId,
    /// The last entry that it is known to hold; 0: none.
    held: u64,
}

/// What the leader has noticed of peers that need a snapshot.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    /// The newest snapshot when a peer was first seen to need one. The next one it is sent is no older, so it goes on from there.
    promised: BTreeMap<NodeId, u64>,
}

impl Trimming {
    /// The last entry that may go; `snapshot` covers up to its index, `purged` is gone already.
    fn limit(&mut self, snapshot: u64, purged: u64, keep: u64, followers: &[Follower]) -> u64 {
        let needs_one = |follower: &Follower| follower.held < purged;
        self.promised.retain(|id, _| {
            let mut needing = followers.iter().filter(|follower| needs_one(follower));
            needing.any(|follower| follower.id == *id)
        });
        let needed = followers.iter().map(|follower| match needs_one(follower) {
            true => *self.promised.entry(follower.id).or_insert(snapshot),
            false => follower.held,
        });
        needed
            .min()
            .unwrap_or(u64::MAX)
            .min(snapshot.saturating_sub(keep))
    }
}

impl Raft {
    /// Cuts this member's log.
    pub(super) async fn trim(&self, core: &Core, trimming: &mut Trimming) {
        let metrics = core.metrics();
        let index = |id: &Option<super::types::LogId>| id.as_ref().map_or(0, |id| id.index);
        let (snapshot, purged) = (index(&metrics.snapshot), index(&metrics.purged));
        let trigger = core.engine.trigger();
        let is_long = core.stores.log.disk_bytes() >= LOG_BYTES;
        let done = if is_long && index(&metrics.last_applied) > snapshot {
            trigger.snapshot().await
        } else {
            let limit = match is_long {
                true => snapshot,
                false => {
                    let keep = self.0.settings.keep_log;
                    trimming.limit(snapshot, purged, keep, &self.followers())
                }
            };
            match limit > purged {
                true => trigger.purge_log(limit).await,
                false => Ok(()),
            }
        };
        if let Err(fatal) = done {
            tracing::debug!(%fatal, "the log cannot be cut");
        }
    }

    /// On a leader, the other members that were heard of lately.
    fn followers(&self) -> Vec<Follower> {
        let Some(core) = self.core() else {
            return Vec::new();
        };
        let metrics = core.metrics();
        let all = metrics.replication.iter().flatten();
        all.filter(|(id, _)| **id != core.node && answered_within(&metrics, **id, PATIENCE))
            .map(|(id, held)| Follower {
                id: *id,
                held: held.as_ref().map_or(0, |held| held.index),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(held: u64) -> Vec<Follower> {
        vec![Follower { id: 2, held }]
    }

    #[test]
    fn without_a_peer_in_need_the_snapshot_and_what_is_kept_decide() {
        let mut trimming = Trimming::default();
        assert_eq!(trimming.limit(400, 190, 10, &[]), 390);
        assert_eq!(trimming.limit(400, 190, 10, &held(420)), 390);
        assert_eq!(trimming.limit(5, 0, 10, &held(0)), 0);
    }

    #[test]
    fn what_a_slow_peer_still_lacks_is_kept() {
        let mut trimming = Trimming::default();
        assert_eq!(trimming.limit(400, 190, 10, &held(250)), 250);
    }

    #[test]
    fn a_peer_that_takes_a_snapshot_in_is_not_chased() {
        let mut trimming = Trimming::default();
        // It has nothing; the log goes on from 390, and the snapshot of 400 is on its way.
        assert_eq!(trimming.limit(400, 390, 10, &held(0)), 390);
        assert_eq!(trimming.limit(600, 390, 10, &held(0)), 400);
        assert_eq!(trimming.limit(800, 400, 10, &held(0)), 400);
        // It has taken it in, and goes on by entries.
        assert_eq!(trimming.limit(800, 400, 10, &held(400)), 400);
        assert_eq!(trimming.limit(800, 400, 10, &held(790)), 790);
        // Away again for long: what it will need then is another snapshot.
        assert_eq!(trimming.limit(1_000, 900, 10, &held(790)), 990);
    }

    #[test]
    fn a_peer_that_was_long_silent_holds_nothing_up() {
        let mut trimming = Trimming::default();
        assert_eq!(trimming.limit(600, 390, 10, &held(0)), 590);
        assert_eq!(trimming.limit(800, 590, 10, &[]), 790);
        assert!(trimming.promised.is_empty());
    }
}
