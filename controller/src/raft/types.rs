//! What openraft is told about us: our ids, entries and answers. And the way between its ids and the store's.

use std::fmt;

use bytes::Bytes;
use openraft::alias::{LogIdOf, VoteOf};
use openraft::vote::{RaftLeaderId, RaftLeaderIdExt, RaftVote};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::Applied;
use crate::store::log;

/// A member's id in the cluster. Never used twice.
pub type NodeId = u64;

openraft::declare_raft_types!(
    /// The types of this cluster.
    pub(super) Types:
        D = Batch,
        R = Answers,
        NodeId = NodeId,
        Node = Peer,
);

pub(super) type LogId = LogIdOf<Types>;
pub(super) type Vote = VoteOf<Types>;
pub(super) type LeaderId = openraft::alias::LeaderIdOf<Types>;
pub(super) type Entry = openraft::alias::EntryOf<Types>;
pub(super) type Payload = openraft::EntryPayload<Batch, NodeId, Peer>;
pub(super) type Membership = openraft::Membership<NodeId, Peer>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

/// How a member is reached, and which directory it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Peer {
    /// The id of its data directory.
    pub(super) directory: String,
    /// `host:port` of its peer port.
    pub(super) address: String,
}

/// What one log entry carries: proposals, as `batch` frames them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Batch(pub(super) Bytes);

/// The answers to a batch's proposals, in their order. Only where somebody waits for them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Answers(pub(super) Vec<Applied>);

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the content: it holds hashes and ciphertexts, and logs are read by many.
        write!(f, "Batch({} bytes)", self.0.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

// openraft's `serde` feature asks for these. Neither the disk nor the wire uses them: see `payload` and `wire`.

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(|bytes| Self(bytes.into()))
    }
}

impl Serialize for Answers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|applied| applied.encode().to_vec()))
    }
}

impl<'de> Deserialize<'de> for Answers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let encoded = Vec::<Vec<u8>>::deserialize(deserializer)?;
        let decode =
            |bytes: Vec<u8>| Applied::decode(bytes.into()).map_err(serde::de::Error::custom);
        encoded
            .into_iter()
            .map(decode)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

pub(super) fn position(id: &LogId) -> log::Position {
    log::Position {
        term: id.leader_id.term,
        leader: id.leader_id.node_id,
        index: id.index,
    }
}

pub(super) fn log_id(position: log::Position) -> LogId {
    let leader = LeaderId::new_committed(position.term, position.leader);
    LogId::new(leader, position.index)
}

pub(super) fn stored_vote(vote: &Vote) -> log::Vote {
    log::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(super) fn vote(stored: log::Vote) -> Vote {
    Vote::from_leader_id(LeaderId::new(stored.term, stored.node), stored.committed)
}
