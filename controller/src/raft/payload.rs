//! What stands in a log entry, on disk and on the wire: nothing, a batch of proposals, or a membership.
//!
//! A batch, format 1: `u8 format · u32 count · count × (u32 length · proposal)`, big-endian.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::types::{Batch, Entry, Membership, Payload, Peer, log_id, position};
use crate::model::{DecodeError, Proposal};
use crate::store::log;

/// An entry's kind in the store.
const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;
const FORMAT: u8 = 1;

/// Bytes that are no entry of ours. Must stop the process: to skip an entry would split the cluster.
#[derive(Debug, thiserror::Error)]
pub(super) enum PayloadError {
    #[error(
        "a log entry has kind {0}, which this version does not know; install one at least as new as the cluster's newest"
    )]
    Kind(u8),
    #[error(
        "a log entry has batch format {0}, which this version does not know; install one at least as new as the cluster's newest"
    )]
    Format(u8),
    #[error("a log entry is cut short")]
    Short,
    #[error("a membership cannot be read")]
    Membership(#[from] prost::DecodeError),
    #[error("a membership is inconsistent: {0}")]
    Inconsistent(String),
    #[error("a proposal cannot be read")]
    Proposal(#[from] DecodeError),
}

impl From<PayloadError> for std::io::Error {
    fn from(error: PayloadError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

#[derive(Clone, PartialEq, Message)]
struct MembershipRow {
    #[prost(message, repeated, tag = "1")]
    configs: Vec<Config>,
    #[prost(message, repeated, tag = "2")]
    nodes: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
struct Config {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    directory: String,
    #[prost(string, tag = "3")]
    address: String,
}

/// Frames proposals as one entry's content.
pub(super) fn batch(proposals: &[Bytes]) -> Batch {
    let bytes: usize = proposals.iter().map(|proposal| 4 + proposal.len()).sum();
    let mut out = BytesMut::with_capacity(5 + bytes);
    out.put_u8(FORMAT);
    // The batcher's limits keep both numbers far under 4 G.
    out.put_u32(proposals.len() as u32);
    for proposal in proposals {
        out.put_u32(proposal.len() as u32);
        out.put_slice(proposal);
    }
    Batch(out.freeze())
}

/// The proposals of a batch.
pub(super) fn proposals(batch: &Batch) -> Result<Vec<Proposal>, PayloadError> {
    let mut rest = batch.0.clone();
    let format = rest.try_get_u8().map_err(|_| PayloadError::Short)?;
    if format != FORMAT {
        return Err(PayloadError::Format(format));
    }
    let count = rest.try_get_u32().map_err(|_| PayloadError::Short)?;
    let mut proposals = Vec::with_capacity(count.min(1024) as usize);
    for _ in 0..count {
        let length = rest.try_get_u32().map_err(|_| PayloadError::Short)? as usize;
        if length > rest.len() {
            return Err(PayloadError::Short);
        }
        proposals.push(Proposal::decode(rest.split_to(length))?);
    }
    Ok(proposals)
}

/// An entry as the store and the wire carry it.
pub(super) fn store(entry: Entry) -> log::Entry {
    let (kind, payload) = match entry.payload {
        Payload::Blank => (BLANK, Bytes::new()),
        Payload::Normal(batch) => (BATCH, batch.0),
        Payload::Membership(membership) => (MEMBERSHIP, encode_membership(&membership)),
    };
    log::Entry {
        position: position(&entry.log_id),
        kind,
        payload,
    }
}

/// The entry that was stored.
pub(super) fn load(stored: log::Entry) -> Result<Entry, PayloadError> {
    let payload = match stored.kind {
        BLANK => Payload::Blank,
        BATCH => Payload::Normal(Batch(stored.payload)),
        MEMBERSHIP => Payload::Membership(decode_membership(stored.payload)?),
        other => return Err(PayloadError::Kind(other)),
    };
    Ok(Entry {
        log_id: log_id(stored.position),
        payload,
    })
}

pub(super) fn encode_membership(membership: &Membership) -> Bytes {
    let configs = membership.get_joint_config().iter().map(|config| Config {
        voters: config.iter().copied().collect(),
    });
    let nodes = membership.nodes().map(|(id, peer)| Node {
        id: *id,
        directory: peer.directory.clone(),
        address: peer.address.clone(),
    });
    let row = MembershipRow {
        configs: configs.collect(),
        nodes: nodes.collect(),
    };
    row.encode_to_vec().into()
}

pub(super) fn decode_membership(bytes: Bytes) -> Result<Membership, PayloadError> {
    let row = MembershipRow::decode(bytes)?;
    let configs: Vec<BTreeSet<u64>> = row
        .configs
        .into_iter()
        .map(|config| config.voters.into_iter().collect())
        .collect();
    let nodes: BTreeMap<u64, Peer> = row
        .nodes
        .into_iter()
        .map(|node| {
            let peer = Peer {
                directory: node.directory,
                address: node.address,
            };
            (node.id, peer)
        })
        .collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|error| PayloadError::Inconsistent(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Command;

    fn tick(sequence: u64) -> Proposal {
        Proposal {
            author: "a".into(),
            client: "c".into(),
            sequence,
            time_millis: 5,
            command: Command::Tick,
        }
    }

    fn golden(name: &str) -> String {
        name.split_whitespace().collect()
    }

    #[test]
    fn a_batch_of_format_1_keeps_its_bytes() {
        let framed = batch(&[tick(1).encode(), tick(2).encode()]);
        assert_eq!(
            hex::encode(&framed.0),
            golden(include_str!("golden/batch-1.hex"))
        );
        assert_eq!(proposals(&framed).unwrap(), vec![tick(1), tick(2)]);
        for cut in 0..framed.0.len() {
            assert!(
                proposals(&Batch(framed.0.slice(..cut))).is_err(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_membership_keeps_its_bytes() {
        let peer = |n: u64| Peer {
            directory: format!("d{n}"),
            address: format!("h{n}:1"),
        };
        let configs = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
        let nodes: BTreeMap<u64, Peer> = (1..5).map(|n| (n, peer(n))).collect();
        let membership = Membership::new(configs, nodes).unwrap();
        let bytes = encode_membership(&membership);
        assert_eq!(
            hex::encode(&bytes),
            golden(include_str!("golden/membership-1.hex"))
        );
        assert_eq!(decode_membership(bytes).unwrap(), membership);
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let stored = log::Entry {
            position: log::Position::default(),
            kind: 9,
            payload: Bytes::new(),
        };
        assert!(load(stored).unwrap_err().to_string().contains("kind 9"));
    }
}
