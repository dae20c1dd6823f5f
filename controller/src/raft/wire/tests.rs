//! Every message's bytes at format 1, there and back.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use openraft::vote::{RaftLeaderId, RaftLeaderIdExt, RaftVote};

use super::super::types::{Batch, Entry, LeaderId, Membership, Payload, Peer};
use super::*;

fn id(index: u64) -> LogId {
    LogId::new(LeaderId::new_committed(3, 2), index)
}

fn a_vote() -> Vote {
    Vote::from_leader_id(LeaderId::new(4, 1), true)
}

fn membership() -> StoredMembership {
    let peer = Peer {
        directory: "d".into(),
        address: "h:1".into(),
    };
    let membership =
        Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, peer)])).unwrap();
    StoredMembership::new(Some(id(1)), membership)
}

/// Compares with the golden line of this name.
#[track_caller]
fn check(name: &str, bytes: &Bytes) {
    let golden = include_str!("../golden/wire-1.txt");
    let line = golden
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    assert_eq!(hex::encode(bytes), line.unwrap_or_default(), "{name}");
}

#[test]
fn an_append_request_keeps_its_bytes() {
    let request = AppendEntriesRequest::<Types> {
        vote: a_vote(),
        prev_log_id: Some(id(6)),
        entries: vec![
            Entry {
                log_id: id(7),
                payload: Payload::Normal(Batch("batch".into())),
            },
            Entry {
                log_id: id(8),
                payload: Payload::Blank,
            },
        ],
        leader_commit: Some(id(5)),
    };
    let bytes = encode_append(request.clone());
    check("append", &bytes);
    let read = decode_append(bytes).unwrap();
    assert_eq!(format!("{read:?}"), format!("{request:?}"));
    assert_eq!(read.entries, request.entries);
}

#[test]
fn append_answers_keep_their_bytes() {
    let answers: [(&str, StreamAppendResult<Types>); 4] = [
        ("appended", Ok(Some(id(9)))),
        ("appended-none", Ok(None)),
        ("conflict", Err(StreamAppendError::Conflict(id(4)))),
        ("higher", Err(StreamAppendError::HigherVote(a_vote()))),
    ];
    for (name, answer) in answers {
        let bytes = encode_appended(&answer);
        check(name, &bytes);
        assert_eq!(decode_appended(bytes).unwrap(), answer);
    }
}

#[test]
fn votes_keep_their_bytes() {
    let mut request = VoteRequest::<Types>::new(a_vote(), Some(id(3)));
    request.leadership_transfer = true;
    let bytes = encode_vote(&request);
    check("vote", &bytes);
    assert_eq!(decode_vote(bytes).unwrap(), request);
    let response = VoteResponse::<Types>::new(a_vote(), Some(id(3)), true);
    let bytes = encode_voted(&response);
    check("voted", &bytes);
    assert_eq!(decode_voted(bytes).unwrap(), response);
}

#[test]
fn transfers_keep_their_bytes() {
    let request = TransferLeaderRequest::<Types>::new(a_vote(), 3, Some(id(3)));
    let bytes = encode_transfer(&request);
    check("transfer", &bytes);
    assert_eq!(decode_transfer(bytes).unwrap(), request);
    let answers: [(&str, TransferLeaderResponse<Types>); 3] = [
        ("transferred", Ok(())),
        (
            "vote-changed",
            Err(TransferLeaderError::VoteChanged {
                expected: a_vote(),
                actual: a_vote(),
            }),
        ),
        (
            "not-flushed",
            Err(TransferLeaderError::LogNotFlushed {
                expected: Some(id(8)),
                actual: None,
            }),
        ),
    ];
    for (name, answer) in answers {
        let bytes = encode_transferred(&answer);
        check(name, &bytes);
        assert_eq!(decode_transferred(bytes).unwrap(), answer);
    }
    for (name, wish) in [
        ("hand-over", Wish::HandOver(None)),
        ("hand-over-to", Wish::HandOver(Some(7))),
        ("remove", Wish::Remove(7)),
    ] {
        let bytes = encode_wish(wish);
        check(name, &bytes);
        assert_eq!(decode_wish(bytes).unwrap(), wish);
    }
}

#[test]
fn snapshots_keep_their_bytes() {
    let meta = SnapshotMeta {
        last_log_id: Some(id(30)),
        last_membership: membership(),
    };
    let bytes = encode_snapshot(&a_vote(), &meta);
    check("snapshot", &bytes);
    assert_eq!(decode_snapshot(bytes).unwrap(), (a_vote(), meta));
    let response = SnapshotResponse::<Types>::new(a_vote());
    let bytes = encode_installed(&response);
    check("installed", &bytes);
    assert_eq!(decode_installed(bytes).unwrap(), response);
}

#[test]
fn other_formats_and_kinds_are_refused() {
    let bytes = encode_wish(Wish::Remove(7));
    assert!(matches!(
        decode_vote(bytes.clone()),
        Err(WireError::Kind {
            found: 9,
            expected: 3
        })
    ));
    let mut newer = bytes.to_vec();
    newer[0] = 2;
    assert!(matches!(
        decode_wish(newer.into()),
        Err(WireError::Format(2))
    ));
    assert!(matches!(decode_wish(Bytes::new()), Err(WireError::Short)));
}
