//! Raft's messages between controllers: `u8 format · u8 kind · protobuf`. Our own structs, so that a new openraft changes nothing here.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::raft::{TransferLeaderError, TransferLeaderResponse};
use prost::Message;

use super::payload::{self, PayloadError};
use super::types::{
    LogId, SnapshotMeta, StoredMembership, Types, Vote, log_id, position, stored_vote, vote,
};
use crate::store::log;

/// The format of every message so far. Also in each call's envelope.
pub(super) const FORMAT: u32 = 1;

/// A message that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error(
        "a message between controllers has format {0}, which this version does not know; upgrade this controller"
    )]
    Format(u8),
    #[error("a message between controllers has kind {found} where {expected} belongs")]
    Kind { found: u8, expected: u8 },
    #[error("a message between controllers is cut short or lacks a field")]
    Short,
    #[error("a message between controllers cannot be read")]
    Malformed(#[from] prost::DecodeError),
    #[error("a log entry between controllers cannot be read")]
    Entry(#[from] PayloadError),
}

impl From<WireError> for std::io::Error {
    fn from(error: WireError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
struct LogIdRow {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    leader: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct VoteRow {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(bool, tag = "3")]
    committed: bool,
}

#[derive(Clone, PartialEq, Message)]
struct EntryRow {
    #[prost(message, optional, tag = "1")]
    id: Option<LogIdRow>,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(bytes = "bytes", tag = "3")]
    payload: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct AppendRow {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteRow>,
    #[prost(message, optional, tag = "2")]
    previous: Option<LogIdRow>,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<EntryRow>,
    #[prost(message, optional, tag = "4")]
    committed: Option<LogIdRow>,
}

/// `higher` or `conflict` where it was refused; else the last entry that matches.
#[derive(Clone, PartialEq, Message)]
struct AppendedRow {
    #[prost(message, optional, tag = "1")]
    matching: Option<LogIdRow>,
    #[prost(message, optional, tag = "2")]
    conflict: Option<LogIdRow>,
    #[prost(message, optional, tag = "3")]
    higher: Option<VoteRow>,
}

#[derive(Clone, PartialEq, Message)]
struct VoteRequestRow {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteRow>,
    #[prost(message, optional, tag = "2")]
    last: Option<LogIdRow>,
    #[prost(bool, tag = "3")]
    transfer: bool,
}

#[derive(Clone, PartialEq, Message)]
struct VoteAnswerRow {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteRow>,
    #[prost(bool, tag = "2")]
    granted: bool,
    #[prost(message, optional, tag = "3")]
    last: Option<LogIdRow>,
}

#[derive(Clone, PartialEq, Message)]
struct TransferRow {
    #[prost(message, optional, tag = "1")]
    from: Option<VoteRow>,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(message, optional, tag = "3")]
    last: Option<LogIdRow>,
}

/// Both unset: accepted.
#[derive(Clone, PartialEq, Message)]
struct TransferAnswerRow {
    #[prost(message, optional, tag = "1")]
    vote_changed: Option<Votes>,
    #[prost(message, optional, tag = "2")]
    not_flushed: Option<LogIds>,
}

#[derive(Clone, PartialEq, Message)]
struct Votes {
    #[prost(message, optional, tag = "1")]
    expected: Option<VoteRow>,
    #[prost(message, optional, tag = "2")]
    actual: Option<VoteRow>,
}

#[derive(Clone, PartialEq, Message)]
struct LogIds {
    #[prost(message, optional, tag = "1")]
    expected: Option<LogIdRow>,
    #[prost(message, optional, tag = "2")]
    actual: Option<LogIdRow>,
}

#[derive(Clone, PartialEq, Message)]
struct SnapshotRow {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteRow>,
    #[prost(message, optional, tag = "2")]
    last: Option<LogIdRow>,
    #[prost(bytes = "bytes", tag = "3")]
    membership: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMembershipRow {
    #[prost(message, optional, tag = "1")]
    id: Option<LogIdRow>,
    #[prost(bytes = "bytes", tag = "2")]
    membership: Bytes,
}

/// An administrator's wish on its way to the leader.
#[derive(Clone, PartialEq, Message)]
struct WishRow {
    /// 1: hand leadership over · 2: remove a member.
    #[prost(uint32, tag = "1")]
    what: u32,
    /// Which member; 0 with 1: the voter that is furthest along.
    #[prost(uint64, tag = "2")]
    node: u64,
}

/// What an administrator wants of the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// That it hands leadership over; to `None`: to the voter that is furthest along.
    HandOver(Option<u64>),
    /// That it removes a member.
    Remove(u64),
}

/// The kinds of messages; the numbers are part of the format.
pub(super) mod kind {
    pub(in crate::raft) const APPEND: u8 = 1;
    pub(in crate::raft) const APPENDED: u8 = 2;
    pub(in crate::raft) const VOTE: u8 = 3;
    pub(in crate::raft) const VOTED: u8 = 4;
    pub(in crate::raft) const TRANSFER: u8 = 5;
    pub(in crate::raft) const TRANSFERRED: u8 = 6;
    pub(in crate::raft) const SNAPSHOT: u8 = 7;
    pub(in crate::raft) const INSTALLED: u8 = 8;
    pub(in crate::raft) const WISH: u8 = 9;
}

fn put(kind: u8, row: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + row.encoded_len());
    out.put_u8(FORMAT as u8);
    out.put_u8(kind);
    row.encode(&mut out)
        .expect("the buffer grows as needed, nothing else can fail");
    out.freeze()
}

/// The kind of a message, for calls that carry several.
pub(super) fn kind_of(bytes: &Bytes) -> Option<u8> {
    bytes.get(1).copied()
}

fn take<M: Message + Default>(expected: u8, mut bytes: Bytes) -> Result<M, WireError> {
    if bytes.len() < 2 {
        return Err(WireError::Short);
    }
    let head = bytes.split_to(2);
    if u32::from(head[0]) != FORMAT {
        return Err(WireError::Format(head[0]));
    }
    if head[1] != expected {
        return Err(WireError::Kind {
            found: head[1],
            expected,
        });
    }
    Ok(M::decode(bytes)?)
}

fn put_id(id: &LogId) -> LogIdRow {
    put_position(position(id))
}

fn put_position(position: log::Position) -> LogIdRow {
    LogIdRow {
        term: position.term,
        leader: position.leader,
        index: position.index,
    }
}

fn get_position(row: LogIdRow) -> log::Position {
    log::Position {
        term: row.term,
        leader: row.leader,
        index: row.index,
    }
}

fn get_id(row: LogIdRow) -> LogId {
    log_id(get_position(row))
}

fn put_vote(vote: &Vote) -> VoteRow {
    let stored = stored_vote(vote);
    VoteRow {
        term: stored.term,
        node: stored.node,
        committed: stored.committed,
    }
}

fn get_vote(row: Option<VoteRow>) -> Result<Vote, WireError> {
    let row = row.ok_or(WireError::Short)?;
    Ok(vote(log::Vote {
        term: row.term,
        node: row.node,
        committed: row.committed,
    }))
}

pub(super) fn encode_append(request: AppendEntriesRequest<Types>) -> Bytes {
    let entries = request.entries.into_iter().map(|entry| {
        let stored = payload::store(entry);
        EntryRow {
            id: Some(put_position(stored.position)),
            kind: stored.kind.into(),
            payload: stored.payload,
        }
    });
    let row = AppendRow {
        vote: Some(put_vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(put_id),
        entries: entries.collect(),
        committed: request.leader_commit.as_ref().map(put_id),
    };
    put(kind::APPEND, &row)
}

pub(super) fn decode_append(bytes: Bytes) -> Result<AppendEntriesRequest<Types>, WireError> {
    let row: AppendRow = take(kind::APPEND, bytes)?;
    let mut entries = Vec::with_capacity(row.entries.len());
    for entry in row.entries {
        entries.push(payload::load(log::Entry {
            position: get_position(entry.id.ok_or(WireError::Short)?),
            kind: u8::try_from(entry.kind).map_err(|_| WireError::Short)?,
            payload: entry.payload,
        })?);
    }
    Ok(AppendEntriesRequest {
        vote: get_vote(row.vote)?,
        prev_log_id: row.previous.map(get_id),
        entries,
        leader_commit: row.committed.map(get_id),
    })
}

pub(super) fn encode_appended(result: &StreamAppendResult<Types>) -> Bytes {
    let mut row = AppendedRow::default();
    match result {
        Ok(matching) => row.matching = matching.as_ref().map(put_id),
        Err(StreamAppendError::Conflict(id)) => row.conflict = Some(put_id(id)),
        Err(StreamAppendError::HigherVote(vote)) => row.higher = Some(put_vote(vote)),
    }
    put(kind::APPENDED, &row)
}

pub(super) fn decode_appended(bytes: Bytes) -> Result<StreamAppendResult<Types>, WireError> {
    let row: AppendedRow = take(kind::APPENDED, bytes)?;
    Ok(match (row.higher, row.conflict) {
        (Some(higher), _) => Err(StreamAppendError::HigherVote(get_vote(Some(higher))?)),
        (None, Some(conflict)) => Err(StreamAppendError::Conflict(get_id(conflict))),
        (None, None) => Ok(row.matching.map(get_id)),
    })
}

pub(super) fn encode_vote(request: &VoteRequest<Types>) -> Bytes {
    let row = VoteRequestRow {
        vote: Some(put_vote(&request.vote)),
        last: request.last_log_id.as_ref().map(put_id),
        transfer: request.leadership_transfer,
    };
    put(kind::VOTE, &row)
}

pub(super) fn decode_vote(bytes: Bytes) -> Result<VoteRequest<Types>, WireError> {
    let row: VoteRequestRow = take(kind::VOTE, bytes)?;
    Ok(VoteRequest {
        vote: get_vote(row.vote)?,
        last_log_id: row.last.map(get_id),
        leadership_transfer: row.transfer,
    })
}

pub(super) fn encode_voted(response: &VoteResponse<Types>) -> Bytes {
    let row = VoteAnswerRow {
        vote: Some(put_vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(put_id),
    };
    put(kind::VOTED, &row)
}

pub(super) fn decode_voted(bytes: Bytes) -> Result<VoteResponse<Types>, WireError> {
    let row: VoteAnswerRow = take(kind::VOTED, bytes)?;
    Ok(VoteResponse {
        vote: get_vote(row.vote)?,
        vote_granted: row.granted,
        last_log_id: row.last.map(get_id),
    })
}

pub(super) fn encode_transfer(request: &TransferLeaderRequest<Types>) -> Bytes {
    let row = TransferRow {
        from: Some(put_vote(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(put_id),
    };
    put(kind::TRANSFER, &row)
}

pub(super) fn decode_transfer(bytes: Bytes) -> Result<TransferLeaderRequest<Types>, WireError> {
    let row: TransferRow = take(kind::TRANSFER, bytes)?;
    Ok(TransferLeaderRequest::new(
        get_vote(row.from)?,
        row.to,
        row.last.map(get_id),
    ))
}

pub(super) fn encode_transferred(response: &TransferLeaderResponse<Types>) -> Bytes {
    let mut row = TransferAnswerRow::default();
    match response {
        Ok(()) => {}
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            row.vote_changed = Some(Votes {
                expected: Some(put_vote(expected)),
                actual: Some(put_vote(actual)),
            });
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            row.not_flushed = Some(LogIds {
                expected: expected.as_ref().map(put_id),
                actual: actual.as_ref().map(put_id),
            });
        }
    }
    put(kind::TRANSFERRED, &row)
}

pub(super) fn decode_transferred(bytes: Bytes) -> Result<TransferLeaderResponse<Types>, WireError> {
    let row: TransferAnswerRow = take(kind::TRANSFERRED, bytes)?;
    Ok(match (row.vote_changed, row.not_flushed) {
        (Some(votes), _) => Err(TransferLeaderError::VoteChanged {
            expected: get_vote(votes.expected)?,
            actual: get_vote(votes.actual)?,
        }),
        (None, Some(ids)) => Err(TransferLeaderError::LogNotFlushed {
            expected: ids.expected.map(get_id),
            actual: ids.actual.map(get_id),
        }),
        (None, None) => Ok(()),
    })
}

pub(super) fn encode_snapshot(vote: &Vote, meta: &SnapshotMeta) -> Bytes {
    let row = SnapshotRow {
        vote: Some(put_vote(vote)),
        last: meta.last_log_id.as_ref().map(put_id),
        membership: encode_stored_membership(&meta.last_membership),
    };
    put(kind::SNAPSHOT, &row)
}

pub(super) fn decode_snapshot(bytes: Bytes) -> Result<(Vote, SnapshotMeta), WireError> {
    let row: SnapshotRow = take(kind::SNAPSHOT, bytes)?;
    let meta = SnapshotMeta {
        last_log_id: row.last.map(get_id),
        last_membership: decode_stored_membership(row.membership)?,
    };
    Ok((get_vote(row.vote)?, meta))
}

pub(super) fn encode_installed(response: &SnapshotResponse<Types>) -> Bytes {
    let row = VoteAnswerRow {
        vote: Some(put_vote(&response.vote)),
        ..VoteAnswerRow::default()
    };
    put(kind::INSTALLED, &row)
}

pub(super) fn decode_installed(bytes: Bytes) -> Result<SnapshotResponse<Types>, WireError> {
    let row: VoteAnswerRow = take(kind::INSTALLED, bytes)?;
    Ok(SnapshotResponse::new(get_vote(row.vote)?))
}

pub(super) fn encode_wish(wish: Wish) -> Bytes {
    let row = match wish {
        Wish::HandOver(to) => WishRow {
            what: 1,
            node: to.unwrap_or_default(),
        },
        Wish::Remove(node) => WishRow { what: 2, node },
    };
    put(kind::WISH, &row)
}

pub(super) fn decode_wish(bytes: Bytes) -> Result<Wish, WireError> {
    let row: WishRow = take(kind::WISH, bytes)?;
    match row.what {
        1 => Ok(Wish::HandOver((row.node != 0).then_some(row.node))),
        2 => Ok(Wish::Remove(row.node)),
        _ => Err(WireError::Short),
    }
}

/// Also stands in snapshot files' headers.
pub(super) fn encode_stored_membership(stored: &StoredMembership) -> Bytes {
    let row = StoredMembershipRow {
        id: stored.log_id().as_ref().map(put_id),
        membership: payload::encode_membership(stored.membership()),
    };
    row.encode_to_vec().into()
}

pub(super) fn decode_stored_membership(bytes: Bytes) -> Result<StoredMembership, WireError> {
    let row = StoredMembershipRow::decode(bytes)?;
    Ok(StoredMembership::new(
        row.id.map(get_id),
        payload::decode_membership(row.membership)?,
    ))
}

#[cfg(test)]
mod tests;
