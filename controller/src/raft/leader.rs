//! What a member does unasked: describes itself, and, while it leads, names the cluster, promotes learners, raises the feature level, keeps
//! the clock going and the log short.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openraft::ChangeMembers;
use tokio::time::{Instant, MissedTickBehavior};

use super::core::Core;
use super::members::{MembersError, change_membership};
use super::trimming::Trimming;
use super::types::{NodeId, Peer};
use super::{MemberStatus, Raft};
use crate::model::command::{Initialize, RemoveMember, SetLevel};
use crate::model::{Command, LEVELS, Member, State};

/// Between two rounds.
const ROUND: Duration = Duration::from_millis(500);
/// More voters make writes slower and elections longer; further members serve as learners.
const MOST_VOTERS: usize = 5;
/// A learner votes once it is this close …
const CAUGHT_UP: u64 = 250;
/// … and has been for so long.
const CAUGHT_UP_FOR: Duration = Duration::from_secs(2);
/// How long every member must have supported a feature level before it is raised: a rolling upgrade may still be turned back.
const LEVEL_SUPPORTED_FOR: Duration = Duration::from_secs(60);
/// How long a described member may be missing from the membership: it may be on its way in.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How often the clock moves in a mesh where nothing is written, so that what has expired goes.
const TICK_EVERY: Duration = Duration::from_secs(60);

/// What this member has noticed, and since when.
#[derive(Debug, Default)]
struct Duties {
    caught_up: BTreeMap<NodeId, Instant>,
    strangers: BTreeMap<NodeId, Instant>,
    level: Option<(u32, Instant)>,
    ticked: Option<Instant>,
}

/// Rounds until the stage stops.
pub(super) async fn run(raft: Raft, core: Arc<Core>) {
    let stopping = raft.0.stage.stopping();
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut duties, mut trimming) = (Duties::default(), Trimming::default());
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let round = async {
            raft.trim(&core, &mut trimming).await;
            if core.engine.is_leader() {
                raft.lead(&core, &mut duties).await
            } else {
                duties = Duties::default();
                Ok(())
            }?;
            raft.describe_itself(&core).await
        };
        let done = tokio::select! {
            () = stopping.cancelled() => return,
            done = round => done,
        };
        if let Err(error) = done {
            tracing::debug!(%error, "a round of duties was cut short; the next one goes on");
        }
    }
}

impl Raft {
    /// Writes what others must know of this controller, when it is new or has changed.
    async fn describe_itself(&self, core: &Core) -> Result<(), MembersError> {
        let state = self.0.state.borrow().clone();
        let settings = &self.0.settings;
        if state.cluster_id().is_empty() || !core.peers().contains_key(&core.node) {
            return Ok(());
        }
        let own = Member {
            id: core.node,
            name: settings.name.clone(),
            directory: core.directory.clone(),
            peer_address: settings.advertise.peers.clone(),
            xds_address: settings.advertise.xds.clone(),
            admin_address: settings.advertise.admin.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            min_level: *LEVELS.start(),
            max_level: *LEVELS.end(),
        };
        if state
            .members()
            .get(&core.node)
            .is_some_and(|known| **known == own)
        {
            return Ok(());
        }
        let applied = self.propose(self.internal(Command::PutMember(own))).await?;
        if let Some(refusal) = applied.refusal {
            tracing::error!(
                "this controller cannot be described in the cluster: {}",
                refusal.message
            );
        }
        Ok(())
    }

    /// One round as the leader.
    async fn lead(&self, core: &Arc<Core>, duties: &mut Duties) -> Result<(), MembersError> {
        let state = self.0.state.borrow().clone();
        if state.cluster_id().is_empty() {
            return self.name_cluster().await;
        }
        self.finish_change(core).await?;
        self.promote(core, duties).await?;
        self.follow_addresses(core, &state).await?;
        self.forget_strangers(core, &state, duties).await?;
        self.raise_level(core, &state, duties).await?;
        if duties
            .ticked
            .is_none_or(|ticked| ticked.elapsed() >= TICK_EVERY)
        {
            self.propose(self.internal(Command::Tick)).await?;
            duties.ticked = Some(Instant::now());
        }
        Ok(())
    }

    /// The first entry of a new cluster's state.
    async fn name_cluster(&self) -> Result<(), MembersError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let name = Command::Initialize(Initialize {
            cluster_id: self.0.settings.cluster.clone(),
            trust_domain: self.0.settings.trust_domain.clone(),
            // Higher than in any life before, without anybody's memory.
            incarnation: now.as_secs(),
        });
        self.propose(self.internal(name)).await?;
        Ok(())
    }

    /// Ends a change that an earlier leader left half done.
    async fn finish_change(&self, core: &Core) -> Result<(), MembersError> {
        let membership = core.membership();
        let [.., newest] = &membership.get_joint_config()[..] else {
            return Ok(());
        };
        if membership.get_joint_config().len() < 2 {
            return Ok(());
        }
        change_membership(core, ChangeMembers::ReplaceAllVoters(newest.clone()), false).await
    }

    /// Makes a learner a voter once it has kept up for a while.
    async fn promote(&self, core: &Core, duties: &mut Duties) -> Result<(), MembersError> {
        let members = self.members();
        let voters = members.iter().filter(|status| status.is_voter).count();
        let keeps_up = |status: &&MemberStatus| {
            !status.is_voter && status.is_reachable && status.lag <= CAUGHT_UP
        };
        let keeping: BTreeSet<NodeId> = members
            .iter()
            .filter(keeps_up)
            .map(|status| status.id)
            .collect();
        duties.caught_up.retain(|id, _| keeping.contains(id));
        for id in keeping {
            let since = *duties.caught_up.entry(id).or_insert_with(Instant::now);
            if since.elapsed() < CAUGHT_UP_FOR || voters >= MOST_VOTERS {
                continue;
            }
            change_membership(core, ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await?;
            tracing::info!(node = id, name = self.name_of(id), "a controller votes now");
            return Ok(());
        }
        Ok(())
    }

    /// A member that moved is called at its new address.
    async fn follow_addresses(&self, core: &Core, state: &State) -> Result<(), MembersError> {
        for (id, peer) in core.peers() {
            let Some(member) = state.members().get(&id) else {
                continue;
            };
            if member.peer_address == peer.address || member.directory != peer.directory {
                continue;
            }
            let moved = Peer {
                address: member.peer_address.clone(),
                ..peer
            };
            change_membership(
                core,
                ChangeMembers::SetNodes(BTreeMap::from([(id, moved)])),
                true,
            )
            .await?;
        }
        Ok(())
    }

    /// Forgets who is described and no member: a join or a removal was cut off.
    async fn forget_strangers(
        &self,
        core: &Core,
        state: &State,
        duties: &mut Duties,
    ) -> Result<(), MembersError> {
        let peers = core.peers();
        let strangers: BTreeSet<NodeId> = state
            .members()
            .keys()
            .filter(|id| !peers.contains_key(id))
            .copied()
            .collect();
        duties.strangers.retain(|id, _| strangers.contains(id));
        for id in strangers {
            let since = *duties.strangers.entry(id).or_insert_with(Instant::now);
            if since.elapsed() >= FORGET_AFTER {
                self.propose(self.internal(Command::RemoveMember(RemoveMember { id })))
                    .await?;
            }
        }
        Ok(())
    }

    /// Raises the feature level once all members have supported the next for a while.
    async fn raise_level(
        &self,
        core: &Core,
        state: &State,
        duties: &mut Duties,
    ) -> Result<(), MembersError> {
        let members: Option<Vec<_>> = core
            .peers()
            .keys()
            .map(|id| state.members().get(id))
            .collect();
        let supported =
            members.and_then(|members| members.iter().map(|member| member.max_level).min());
        let Some(level) = supported.filter(|level| *level > state.mesh().level()) else {
            duties.level = None;
            return Ok(());
        };
        match duties.level {
            Some((noticed, since)) if noticed == level => {
                if since.elapsed() >= LEVEL_SUPPORTED_FOR {
                    self.propose(self.internal(Command::SetLevel(SetLevel { level })))
                        .await?;
                    tracing::info!(level, "raised the feature level");
                }
            }
            _ => duties.level = Some((level, Instant::now())),
        }
        Ok(())
    }
}
