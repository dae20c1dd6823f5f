//! An election at the first moment at which one can be won, where the leader is seen to have died.
//!
//! A process that is killed closes its connections at once. Its followers then need no random timeout on top of its lease, which is there for
//! leaders that are merely slow: they stand as soon as the lease has run out. Where no connection broke (a dead host, a cut cable, a leader
//! that stalls), openraft's own timers decide.

use std::sync::Arc;
use std::time::Duration;

use openraft::errors::Fatal;
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::types::{NodeId, Types};

/// Between two voters' turns: longer than a round of votes, so that the first is mostly the only one.
const TURN: Duration = Duration::from_millis(25);
/// Before standing again: another voter's lease may have begun a little later.
const AGAIN: Duration = Duration::from_millis(40);
/// How often to stand; after that openraft's timers have taken over.
const ATTEMPTS: usize = 8;

/// Waits for broken connections until this controller stops. `lease` is how long a leader may be silent.
pub(super) async fn run(core: Arc<Core>, lease: Duration, stopping: CancellationToken) {
    let succession = async {
        loop {
            core.severed.notified().await;
            if let Err(fatal) = succeed(&core, lease).await {
                tracing::debug!(%fatal, "raft ended in a succession");
                return;
            }
        }
    };
    tokio::select! {
        () = stopping.cancelled() => return,
        () = succession => {}
    }
    stopping.cancelled().await;
}

async fn succeed(core: &Core, lease: Duration) -> Result<(), Fatal<Types>> {
    let Some(leader) = core.metrics().current_leader else {
        return Ok(());
    };
    let from = (core.heard_at() + lease + turn(core, leader)).max(core.votes_from);
    tokio::time::sleep_until(from.into()).await;
    for _ in 0..ATTEMPTS {
        let is_over = core.metrics().current_leader != Some(leader);
        // It, or another process in its place, goes on leading.
        let is_alive = core.silence() < lease;
        if is_over || is_alive {
            return Ok(());
        }
        core.engine.trigger().elect(true).await?;
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}

/// How long this voter lets others go first.
fn turn(core: &Core, leader: NodeId) -> Duration {
    let membership = core.membership();
    let before = membership
        .voter_ids()
        .filter(|voter| *voter != leader && *voter < core.node)
        .count();
    TURN * before as u32
}
