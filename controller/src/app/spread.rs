//! Streams move from a controller that has more than its share to the others, a few a second: after a rolling restart the last
//! controller would have next to none.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use crate::agreement::Peers;
use crate::raft::Raft;
use crate::supervise::Stage;
use crate::xds::Xds;

/// Between two looks.
const ROUND: Duration = Duration::from_secs(1);
/// More than this above the mean is too much, in percent: less is chance.
const TOLERANCE: u64 = 20;
/// Of its streams a controller sends away at most one in so many a round, and three: each costs the others a handshake.
const PACE: u64 = 50;

/// Compares and sends away until the stage stops. What is at most `few` streams above the mean stays, too: below that a move costs more than it gains.
pub(super) fn watch(stage: &Stage, xds: Xds, raft: Raft, few: u32) {
    let few = u64::from(few);
    let stopping = stage.stopping();
    stage.vital("xds spread", async move {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = rounds.tick() => {}
            }
            let own = xds.streams() as u64;
            if own <= few {
                continue;
            }
            let others = Peers::streams(&raft).await;
            let leaving = surplus(own, &others, few);
            if leaving > 0 {
                info!(own, ?others, leaving, "has more than its share of clients");
                xds.send_away(usize::try_from(leaving).unwrap_or(usize::MAX));
            }
        }
    });
}

/// How many of its own streams a controller sends away now, beside others that have so many.
fn surplus(own: u64, others: &[u64], few: u64) -> u64 {
    let controllers = others.len() as u64 + 1;
    let mean = (own + others.iter().sum::<u64>()) / controllers;
    let allowed = (mean + mean * TOLERANCE / 100).max(mean + few);
    own.saturating_sub(allowed).min((own / PACE).max(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: u64 = 10;

    #[track_caller]
    fn check(own: u64, others: &[u64], expected: u64) {
        let leaving = surplus(own, others, FEW);
        assert_eq!(leaving, expected, "{own} beside {others:?}");
    }

    #[test]
    fn how_many_are_few_can_be_said() {
        assert_eq!(surplus(12, &[0, 0], 2), 3);
        assert_eq!(surplus(6, &[3, 3], 2), 0);
        assert_eq!(surplus(7, &[3, 3], 2), 1);
    }

    #[test]
    fn only_what_is_clearly_too_much_is_sent_away_and_a_few_at_a_time() {
        check(10_000, &[], 0);
        check(10_000, &[0, 0], 200);
        check(3_900, &[3_000, 3_000], 0);
        check(4_100, &[3_000, 3_000], 61);
        check(150, &[0, 0], 3);
        check(62, &[46, 42], 2);
        check(60, &[46, 44], 0);
        check(12, &[0, 0], 0);
    }

    #[test]
    fn it_comes_to_an_end() {
        let mut streams = [9_000, 500, 0];
        for _ in 0..10_000 {
            let all = streams;
            for own in 0..3 {
                let others = [all[(own + 1) % 3], all[(own + 2) % 3]];
                let leaving = surplus(all[own], &others, FEW);
                streams[own] -= leaving;
                // Clients choose among the others.
                streams[(own + 1) % 3] += leaving / 2;
                streams[(own + 2) % 3] += leaving - leaving / 2;
            }
            if streams == all {
                assert!(streams.iter().all(|one| *one <= 3_800), "{streams:?}");
                return;
            }
        }
        panic!("still moving: {streams:?}");
    }
}
