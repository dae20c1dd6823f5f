//! What can be seen of the cluster from here.

use std::time::Duration;

use bytes::Bytes;
use openraft::Instant;

use super::Raft;
use super::core::Core;
use super::types::NodeId;
use crate::agreement::AgreementError;
use crate::model::{IssuanceRecord, Member};
use crate::store::StoreError;
use crate::store::table::Table;
use prost::Message;
use xds_api::maille::v1 as proto;

/// How long another controller may take to take renewals.
const CALL_LIMIT: Duration = Duration::from_secs(1);

/// This controller's Raft, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The leader's name; empty where there is none.
    pub leader: String,
    /// The election term.
    pub term: u64,
    /// The last entry in this controller's log.
    pub last_log: u64,
    /// The last entry that a quorum has.
    pub committed: u64,
    /// The last entry applied here.
    pub applied: u64,
    /// The last entry that the newest snapshot covers.
    pub snapshot: u64,
    /// The last entry that was purged.
    pub purged: u64,
    /// Bytes on the disk: log, tables and the newest snapshot.
    pub disk_bytes: u64,
}

/// A member as this controller sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberStatus {
    /// Its node id.
    pub id: NodeId,
    /// How it described itself; only the peer address where it has not yet.
    pub member: Member,
    /// Whether it votes.
    pub is_voter: bool,
    /// Whether it leads.
    pub is_leader: bool,
    /// Whether the leader heard from it within its lease. Known on the leader.
    pub is_reachable: bool,
    /// Entries behind the leader. Known on the leader.
    pub lag: u64,
}

impl Core {
    /// Encoded issuance records from number `from` on, expired ones included.
    pub(super) fn records(&self, from: u64, limit: usize) -> Result<Vec<Bytes>, StoreError> {
        let rows = self
            .stores
            .tables
            .scan(Table::Issuance, &from.to_be_bytes(), limit)?;
        Ok(rows.into_iter().map(|(_, record)| record).collect())
    }
}

impl Raft {
    /// This controller's Raft, in numbers.
    pub fn status(&self) -> Status {
        let Some(core) = self.core() else {
            return Status::default();
        };
        let metrics = core.metrics();
        let index = |id: &Option<super::types::LogId>| id.as_ref().map_or(0, |id| id.index);
        let snapshot_bytes = core
            .stores
            .snapshots
            .current()
            .map_or(0, |snapshot| snapshot.inspection().bytes);
        Status {
            leader: metrics
                .current_leader
                .map(|leader| self.name_of(leader))
                .unwrap_or_default(),
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or_default(),
            committed: index(&metrics.cluster_committed).max(index(&metrics.local_committed)),
            applied: index(&metrics.last_applied),
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            disk_bytes: core.stores.log.disk_bytes()
                + core.stores.tables.disk_bytes()
                + snapshot_bytes,
        }
    }

    /// Every member.
    pub fn members(&self) -> Vec<MemberStatus> {
        let Some(core) = self.core() else {
            return Vec::new();
        };
        let metrics = core.metrics();
        let state = self.0.state.borrow().clone();
        let membership = metrics.membership_config.membership();
        let last = metrics.last_log_index.unwrap_or_default();
        let describe = |(id, peer): (&NodeId, &super::types::Peer)| {
            let member = state.members().get(id).map(|member| Member::clone(member));
            let member = member.unwrap_or_else(|| Member {
                id: *id,
                directory: peer.directory.clone(),
                peer_address: peer.address.clone(),
                ..Member::default()
            });
            let is_self = *id == core.node;
            // A learner to which nothing has been replicated yet stands there with nothing: it lacks all.
            let held = metrics
                .replication
                .as_ref()
                .and_then(|all| all.get(id))
                .map(|matched| matched.as_ref().map_or(0, |matched| matched.index));
            MemberStatus {
                id: *id,
                member,
                is_voter: membership.voter_ids().any(|voter| voter == *id),
                is_leader: metrics.current_leader == Some(*id),
                is_reachable: is_self || self.has_answered(&metrics, *id),
                lag: match is_self {
                    true => 0,
                    false => held.map_or(0, |held| last.saturating_sub(held)),
                },
            }
        };
        membership.nodes().map(describe).collect()
    }

    fn has_answered(&self, metrics: &super::core::Metrics, node: NodeId) -> bool {
        answered_within(metrics, node, self.0.settings.timing.election_most)
    }

    pub(super) fn name_of(&self, node: NodeId) -> String {
        let state = self.0.state.borrow();
        match state.members().get(&node) {
            Some(member) => member.name.clone(),
            None => format!("node {node}"),
        }
    }

    /// Issuance records from number `from` on, expired ones included, at most `limit`.
    pub fn issuance_records(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<IssuanceRecord>, StoreError> {
        let Some(core) = self.core() else {
            return Ok(Vec::new());
        };
        let decode = |bytes: Bytes| {
            let record = IssuanceRecord::decode(bytes);
            record.map_err(|error| {
                StoreError::damaged(
                    self.0.directory.path(),
                    format!("an issuance record cannot be read: {error}"),
                )
            })
        };
        core.records(from, limit)?.into_iter().map(decode).collect()
    }

    /// Tells the leader which leases were renewed here.
    pub(super) async fn pass_leases_on(
        &self,
        leases: Vec<proto::LeaseId>,
    ) -> Result<(), AgreementError> {
        let core = self.require_core()?;
        let leader = self
            .find_leader(tokio::time::Instant::now() + CALL_LIMIT)
            .await?;
        if leader == core.node {
            if let Some(sink) = self.0.leases.get() {
                sink.renew(&leases);
            }
            return Ok(());
        }
        let unavailable = |text: String| {
            AgreementError::Unavailable(format!("the leader did not take the renewals: {text}"))
        };
        let called = self.within(|| core.call(leader));
        let (mut client, envelope) =
            called.ok_or_else(|| unavailable("it is no member any more".into()))?;
        let mut request = tonic::Request::new(proto::RenewLeasesRequest {
            envelope: Some(envelope),
            leases,
        });
        request.set_timeout(CALL_LIMIT);
        let answer = client
            .renew_leases(request)
            .await
            .map_err(|status| unavailable(status.message().to_owned()))?;
        match answer.into_inner().not_leader {
            true => Err(unavailable("it does not lead any more".into())),
            false => Ok(()),
        }
    }
}

/// Whether a leader heard of a member within some time.
pub(super) fn answered_within(
    metrics: &super::core::Metrics,
    node: NodeId,
    time: Duration,
) -> bool {
    let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(&node));
    let acked = heard.and_then(|acked| acked.as_ref());
    acked.is_some_and(|acked| acked.elapsed() < time)
}

/// How long ago this member heard of a leader, or, on a leader, of a quorum.
pub(super) fn silence(core: &Core) -> Duration {
    let metrics = core.metrics();
    match metrics.last_quorum_acked {
        Some(acked) if metrics.current_leader == Some(core.node) => acked.elapsed(),
        _ => core.silence(),
    }
}

/// An error's text with its causes.
pub(super) fn text_with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
