//! Who belongs to the cluster: joining by token, removing, handing leadership over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::errors::{ChangeMembershipError, ClientWriteError};
use tokio::time::Instant;
use tonic::{Request, Status};
use xds_api::join_token::JoinToken;
use xds_api::maille::v1 as proto;

use super::core::Core;
use super::types::{NodeId, Peer};
use super::wire::{self, Wish};
use super::{PAUSE, Raft};
use crate::agreement::AgreementError;
use crate::model::command::{RemoveMember, UseToken};
use crate::model::{Command, Member, Proposal, TokenPurpose};

/// How long a change of the membership may take: two entries to a quorum.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);
/// How long a handover may take: the target's log is nearly complete, so one election.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);
/// How long a planned stop waits for it.
const STOP_HAND_OVER_LIMIT: Duration = Duration::from_secs(2);

/// A change of the members was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Nobody has this id or name.
    #[error("there is no member {name}; there are {known}")]
    NotFound {
        /// What was asked for.
        name: String,
        /// The members' names.
        known: String,
    },
    /// It would leave the cluster without a quorum, or is not possible now.
    #[error("{0}")]
    Refused(String),
    /// No leader could be asked, or it did not answer.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
}

impl Raft {
    /// Removes a member, by id or name. Refused where the rest would have no quorum.
    pub async fn remove_member(&self, member: &str) -> Result<NodeId, MembersError> {
        let node = self.find_member(member)?;
        self.wish(Wish::Remove(node)).await?;
        Ok(node)
    }

    /// Hands leadership to a member, by id or name (`None`: the voter that is furthest along), and waits until it leads. Answers its name.
    pub async fn transfer_leadership(&self, member: Option<&str>) -> Result<String, MembersError> {
        let to = member.map(|member| self.find_member(member)).transpose()?;
        let deadline = Instant::now() + HAND_OVER_LIMIT;
        let before = self.find_leader(deadline).await?;
        if to == Some(before) {
            return Ok(self.name_of(before));
        }
        self.wish(Wish::HandOver(to)).await?;
        let is_done = |leader: Option<NodeId>| {
            leader.is_some() && leader != Some(before) && (to.is_none() || leader == to)
        };
        let mut leadership = self.leadership();
        let led =
            tokio::time::timeout_at(deadline, leadership.wait_for(|now| is_done(now.leader))).await;
        match led {
            Ok(Ok(now)) => Ok(self.name_of(now.leader.unwrap_or(before))),
            _ => Err(MembersError::Refused(
                "leadership was not taken over in time; see `maille members`".into(),
            )),
        }
    }

    fn find_member(&self, name: &str) -> Result<NodeId, MembersError> {
        let members = self.members();
        let is_meant = |id: NodeId, called: &str| called == name || id.to_string() == name;
        let found = members
            .iter()
            .find(|status| is_meant(status.id, &status.member.name));
        // Or out of the membership and still described, by a removal that was cut short: asking again finishes it.
        let left = || {
            let state = self.0.state.borrow();
            let mut described = state.members().values();
            described
                .find(|member| is_meant(member.id, &member.name))
                .map(|member| member.id)
        };
        found.map(|status| status.id).or_else(left).ok_or_else(|| {
            let known: Vec<_> = members
                .iter()
                .map(|status| status.member.name.as_str())
                .collect();
            MembersError::NotFound {
                name: name.to_owned(),
                known: known.join(", "),
            }
        })
    }

    /// Has the leader fulfil a wish.
    async fn wish(&self, wish: Wish) -> Result<(), MembersError> {
        let core = self.require_core()?;
        let leader = self.find_leader(Instant::now() + CHANGE_LIMIT).await?;
        if leader == core.node {
            return self.fulfil(&core, wish).await;
        }
        let Some((mut client, envelope)) = self.within(|| core.call(leader)) else {
            return Err(MembersError::Refused(
                "the leader is no member any more; try again".into(),
            ));
        };
        let mut request = Request::new(proto::RaftMessage {
            envelope: Some(envelope),
            payload: wire::encode_wish(wish),
        });
        request.set_timeout(CHANGE_LIMIT);
        match client.transfer_leader(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                Err(MembersError::Refused(status.message().to_owned()))
            }
            Err(status) => Err(AgreementError::Unknown(format!(
                "the leader did not answer: {}",
                status.message()
            ))
            .into()),
        }
    }

    /// Fulfils a wish as the leader.
    pub(super) async fn fulfil(&self, core: &Arc<Core>, wish: Wish) -> Result<(), MembersError> {
        if !core.engine.is_leader() {
            return Err(MembersError::Refused(
                "this controller does not lead any more; try again".into(),
            ));
        }
        match wish {
            Wish::HandOver(to) => self.begin_hand_over(core, to).await,
            Wish::Remove(node) => self.remove(core, node).await,
        }
    }

    async fn begin_hand_over(&self, core: &Core, to: Option<NodeId>) -> Result<(), MembersError> {
        let voters: BTreeSet<NodeId> = core.membership().voter_ids().collect();
        let to = match to {
            Some(to) => to,
            None => furthest(core, &voters)
                .ok_or_else(|| MembersError::Refused("no other voter can be reached".into()))?,
        };
        if !voters.contains(&to) {
            let text = format!("{} does not vote, so it cannot lead", self.name_of(to));
            return Err(MembersError::Refused(text));
        }
        let asked = core.engine.trigger().transfer_leader(to).await;
        asked.map_err(|fatal| MembersError::Refused(fatal.to_string()))
    }

    async fn remove(&self, core: &Core, node: NodeId) -> Result<(), MembersError> {
        let members = self.members();
        let rest: Vec<_> = members
            .iter()
            .filter(|status| status.is_voter && status.id != node)
            .collect();
        let reachable = rest.iter().filter(|status| status.is_reachable).count();
        if reachable * 2 <= rest.len() {
            let text = format!(
                "removing {} would leave {} voters of which {reachable} answer, which is no quorum; bring others back or join new ones first",
                self.name_of(node),
                rest.len()
            );
            return Err(MembersError::Refused(text));
        }
        let is_voter = members
            .iter()
            .any(|status| status.id == node && status.is_voter);
        let change = match is_voter {
            true => ChangeMembers::RemoveVoters(BTreeSet::from([node])),
            false => ChangeMembers::RemoveNodes(BTreeSet::from([node])),
        };
        if members.iter().any(|status| status.id == node) {
            change_membership(core, change, false).await?;
        }
        let forget = self.internal(Command::RemoveMember(RemoveMember { id: node }));
        // Whether it was there is of no interest: it is gone.
        self.propose(forget).await?;
        Ok(())
    }

    /// Before a planned stop: hands leadership over where this controller leads.
    pub(super) async fn hand_over_before_stopping(&self) {
        let Some(core) = self.core() else { return };
        if !core.engine.is_leader() {
            return;
        }
        if let Err(error) = self.begin_hand_over(&core, None).await {
            tracing::info!(%error, "stopping without handing leadership over");
            return;
        }
        let mut leadership = self.leadership();
        let led = leadership.wait_for(|now| now.leader.is_some() && !now.is_leader);
        if tokio::time::timeout(STOP_HAND_OVER_LIMIT, led)
            .await
            .is_err()
        {
            tracing::warn!("leadership was not taken over in time; the others elect a leader");
        }
    }

    /// Takes a controller in: as a learner now, as a voter once it has caught up. Repeating it is safe. `pass_on`: asks the leader where
    /// this controller does not lead.
    pub(super) async fn take_in(
        &self,
        core: &Arc<Core>,
        join: proto::JoinRequest,
        pass_on: bool,
    ) -> Result<proto::join_response::Answer, Status> {
        if !core.engine.is_leader() {
            return match pass_on {
                true => self.pass_on(core, join).await,
                false => Ok(proto::join_response::Answer::NotLeader(
                    proto::NotLeader::default(),
                )),
            };
        }
        let known = core
            .peers()
            .into_iter()
            .find(|(_, peer)| peer.directory == join.directory);
        if let Some((node, _)) = known {
            return Ok(proto::join_response::Answer::Joined(proto::Joined { node }));
        }
        self.check_newcomer(&join)?;
        self.pay(&join).await?;
        let blank = core.engine.write_blank().await;
        // The index of an entry of its own is an id that nobody else gets, ever.
        let node = blank
            .map_err(|error| Status::unavailable(error.to_string()))?
            .log_id
            .index;
        let described = self
            .propose(self.internal(Command::PutMember(described(&join, node))))
            .await;
        let described = described.map_err(|error| Status::unavailable(error.to_string()))?;
        if let Some(refusal) = described.refusal {
            return Err(Status::already_exists(refusal.message));
        }
        let peer = Peer {
            directory: join.directory.clone(),
            address: join.peer_address.clone(),
        };
        let added = core.engine.add_learner(node, peer, false).await;
        added.map_err(|error| Status::unavailable(error.to_string()))?;
        tracing::info!(
            node,
            name = join.name,
            "took a controller in; it votes once it has caught up"
        );
        Ok(proto::join_response::Answer::Joined(proto::Joined { node }))
    }

    async fn pass_on(
        &self,
        core: &Core,
        join: proto::JoinRequest,
    ) -> Result<proto::join_response::Answer, Status> {
        let nobody = proto::join_response::Answer::NotLeader(proto::NotLeader::default());
        let Some(leader) = core
            .metrics()
            .current_leader
            .filter(|leader| *leader != core.node)
        else {
            return Ok(nobody);
        };
        let Some((mut client, _)) = self.within(|| core.call(leader)) else {
            return Ok(nobody);
        };
        let mut request = Request::new(join);
        request.set_timeout(CHANGE_LIMIT);
        Ok(client
            .join(request)
            .await?
            .into_inner()
            .answer
            .unwrap_or(nobody))
    }

    fn check_newcomer(&self, join: &proto::JoinRequest) -> Result<(), Status> {
        let state = self.0.state.borrow();
        if let Some(same) = state
            .members()
            .values()
            .find(|member| member.name == join.name)
        {
            return Err(Status::already_exists(format!(
                "the name {} belongs to member {}; give this controller another `name`, or remove that member first (`maille members remove {}`)",
                join.name, same.id, same.id
            )));
        }
        let level = state.mesh().level();
        if !(join.min_level..=join.max_level).contains(&level) {
            return Err(Status::failed_precondition(format!(
                "the cluster is at feature level {level}, this controller's version {} knows {} to {}; install the cluster's version",
                join.version, join.min_level, join.max_level
            )));
        }
        Ok(())
    }

    /// Uses the newcomer's token up.
    async fn pay(&self, join: &proto::JoinRequest) -> Result<(), Status> {
        let token: JoinToken = join
            .token
            .parse()
            .map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let user = format!("{} {}", join.name, join.directory);
        let is_paid = {
            let state = self.0.state.borrow();
            let unknown = || {
                Status::permission_denied(
                    "the controller token is unknown; make one with `maille token create --controller`",
                )
            };
            let known = state.tokens().get(&token.id).ok_or_else(unknown)?;
            if known.secret_sha256[..] != crate::model::codec::sha256(&token.secret) {
                return Err(unknown());
            }
            if known.purpose != TokenPurpose::Controller as i32 {
                return Err(Status::permission_denied(
                    "the token is a workload's; make one with `maille token create --controller`",
                ));
            }
            known.used_at != 0 && known.used_by == user
        };
        if is_paid {
            return Ok(());
        }
        let spend = Command::UseToken(UseToken {
            id: token.id,
            used_by: user,
        });
        let spent = self.propose(self.internal(spend)).await;
        let spent = spent.map_err(|error| Status::unavailable(error.to_string()))?;
        match spent.refusal {
            Some(refusal) => Err(Status::permission_denied(refusal.message)),
            None => Ok(()),
        }
    }

    /// A proposal of this controller's own.
    pub(super) fn internal(&self, command: Command) -> Proposal {
        Proposal {
            author: format!("controller {}", self.0.settings.name),
            client: String::new(),
            sequence: 0,
            time_millis: 0,
            command,
        }
    }
}

fn described(join: &proto::JoinRequest, node: NodeId) -> Member {
    Member {
        id: node,
        name: join.name.clone(),
        directory: join.directory.clone(),
        peer_address: join.peer_address.clone(),
        xds_address: join.xds_address.clone(),
        admin_address: join.admin_address.clone(),
        version: join.version.clone(),
        min_level: join.min_level,
        max_level: join.max_level,
    }
}

/// The other voter whose log is the longest.
fn furthest(core: &Core, voters: &BTreeSet<NodeId>) -> Option<NodeId> {
    let metrics = core.metrics();
    let replication = metrics.replication?;
    let others = replication
        .iter()
        .filter(|(id, _)| voters.contains(id) && **id != core.node);
    others
        .max_by_key(|(_, matched)| **matched)
        .map(|(id, _)| *id)
}

/// Changes the membership; waits while another change is under way.
pub(super) async fn change_membership(
    core: &Core,
    change: ChangeMembers<NodeId, Peer>,
    retain: bool,
) -> Result<(), MembersError> {
    let deadline = Instant::now() + CHANGE_LIMIT;
    loop {
        let changing = core.engine.change_membership(change.clone(), retain);
        let error = match tokio::time::timeout_at(deadline, changing).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => return Err(AgreementError::Unknown("no quorum agreed in time".into()).into()),
        };
        let is_busy = matches!(
            error.api_error(),
            Some(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_)
            ))
        );
        if !is_busy || Instant::now() + PAUSE >= deadline {
            return Err(MembersError::Refused(error.to_string()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
