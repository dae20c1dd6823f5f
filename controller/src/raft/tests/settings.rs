//! The settings that safety rests on.
#![allow(clippy::unwrap_used)]

use super::cluster::settings;
use crate::raft::Timing;

/// With it on, kill -9 loops lost acknowledged writes: one log id, two payloads.
#[test]
fn a_restarted_leader_never_leads_on_without_an_election() {
    let config = settings("c1", "cluster", 1, vec![]).config().unwrap();
    assert_eq!(config.enable_leader_restore, Some(false));
    assert_eq!(config.allow_log_reversion, None);
}

#[test]
fn a_candidate_asks_before_it_raises_the_term() {
    let config = settings("c1", "cluster", 1, vec![]).config().unwrap();
    assert_eq!(config.enable_pre_vote, Some(true));
}

#[test]
fn a_follower_that_lags_more_than_a_snapshot_gets_one() {
    let config = settings("c1", "cluster", 1, vec![]).config().unwrap();
    assert!(config.replication_lag_threshold > 10_000);
    assert_eq!(Timing::default().heartbeat.as_millis(), 100);
}
