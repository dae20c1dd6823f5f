//! Whether this controller still leads, by the word of a majority that is asked for it now.
//!
//! openraft's lease and its read index both rest on when what a follower has acknowledged was sent. Where the answer to an older message comes
//! after a newer one has left (a process that stood still, a network that did), 0.10.0-alpha.37 takes the newer one's time, and a leader that was
//! deposed meanwhile believes in its lease. What clients are shown may not rest on that.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use xds_api::maille::v1 as proto;

use super::Raft;
use super::core::Core;
use super::propose::Refused;
use super::types::{NodeId, stored_vote};
use crate::store::log::Vote;

/// How long a voter may take: it looks at its own vote.
const LIMIT: Duration = Duration::from_secs(1);

impl Raft {
    /// Returns once a majority of the voters has said, after the call, that it has voted for nobody later than `vote`. What had been committed under
    /// a later leader before the call would have had one of them.
    pub(super) async fn confirm(&self, core: &Core, vote: Vote) -> Result<(), Refused> {
        let membership = core.membership();
        let mut confirmed = BTreeSet::from([core.node]);
        let others = membership.voter_ids().filter(|id| *id != core.node);
        let mut asked: FuturesUnordered<_> = others
            .collect::<BTreeSet<NodeId>>()
            .into_iter()
            .map(async |id| {
                self.ask_for_confirmation(core, id, vote)
                    .await
                    .then_some(id)
            })
            .collect();
        loop {
            let mut configs = membership.get_joint_config().iter();
            if configs.all(|voters| majority(voters, &confirmed)) {
                return Ok(());
            }
            match asked.next().await {
                Some(one) => confirmed.extend(one),
                None => {
                    let text = "a majority does not confirm that this controller leads";
                    return Err(Refused::Unavailable(text.into()));
                }
            }
        }
    }

    async fn ask_for_confirmation(&self, core: &Core, node: NodeId, vote: Vote) -> bool {
        let Some((mut client, envelope)) = self.within(|| core.call(node)) else {
            return false;
        };
        let mut request = tonic::Request::new(proto::ConfirmRequest {
            envelope: Some(envelope),
            term: vote.term,
            leader: vote.node,
        });
        request.set_timeout(LIMIT);
        match client.confirm(request).await {
            Ok(answer) => answer.into_inner().confirmed,
            Err(status) => {
                tracing::debug!(node, %status, "does not confirm");
                false
            }
        }
    }
}

fn majority(voters: &BTreeSet<NodeId>, confirmed: &BTreeSet<NodeId>) -> bool {
    voters.intersection(confirmed).count() > voters.len() / 2
}

/// What this controller has voted for. Asked of the engine itself: what it publishes comes a little later.
pub(super) async fn own_vote(core: &Core) -> Result<Vote, Refused> {
    let vote = core
        .engine
        .with_raft_state(|state| stored_vote(state.vote_ref()));
    vote.await
        .map_err(|fatal| Refused::Unavailable(fatal.to_string()))
}

/// Whether a voter with this vote has gone past a leader.
pub(super) fn confirms(own: Vote, term: u64, leader: NodeId) -> bool {
    (own.term, own.node) <= (term, leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_voters_are_a_majority() {
        let set = |all: &[NodeId]| all.iter().copied().collect::<BTreeSet<_>>();
        let check = |voters: &[NodeId], confirmed: &[NodeId], expected| {
            assert_eq!(majority(&set(voters), &set(confirmed)), expected);
        };
        check(&[1, 2, 3], &[1], false);
        check(&[1, 2, 3], &[1, 3], true);
        check(&[1, 2, 3, 4], &[1, 2], false);
        check(&[1, 2, 3], &[1, 7, 8], false);
        check(&[1], &[1], true);
    }

    #[test]
    fn who_has_voted_for_somebody_later_does_not_confirm() {
        let vote = |term, node| Vote {
            term,
            node,
            committed: false,
        };
        assert!(confirms(vote(4, 3), 5, 1));
        assert!(confirms(vote(5, 1), 5, 1));
        assert!(!confirms(vote(5, 2), 5, 1));
        assert!(!confirms(vote(6, 1), 5, 1));
    }
}
