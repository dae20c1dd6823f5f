//! One record of the log on disk, format 1. Little-endian, self-checking:
//!
//! ```text
//! u32 length of what follows the checksum
//! u32 crc32c of what follows
//! u64 sequence        counts every record ever written to this log
//! u64 synced          every record up to here was durable when this one was written
//! u8  format = 1
//! u8  type            1 entry · 2 vote · 3 truncate · 4 purge
//! …   by type
//! ```
//!
//! `synced` is what tells a torn write (nobody was told that it is there) from damage (somebody was).

use bytes::{Buf, BufMut, Bytes};

use super::{Entry, Position, Vote};

/// The format that this version writes.
pub(super) const FORMAT: u8 = 1;
/// Bytes before the body: length and checksum.
pub(super) const PREFIX: usize = 8;
/// Bytes of a body before what its type adds.
const BODY_HEAD: usize = 8 + 8 + 1 + 1;
const POSITION: usize = 24;

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// An entry at the end of the log.
    Entry(Entry),
    /// The newest vote.
    Vote(Vote),
    /// Entries from this index on are gone.
    Truncate {
        /// The first index that is gone.
        from: u64,
    },
    /// Entries up to here are covered by a verified snapshot and gone.
    Purge(Position),
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Its number in this log.
    pub(super) sequence: u64,
    /// Every record up to this number was durable when it was written.
    pub(super) synced: u64,
    /// What it says.
    pub(super) change: Change,
}

/// What stands at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole record and the bytes it takes.
    Record(Record, usize),
    /// Zeros: nothing was written here yet.
    End,
    /// Something that is no record of ours.
    Invalid(&'static str),
}

/// Appends an entry's record to `out`.
pub(super) fn put_entry(out: &mut Vec<u8>, sequence: u64, synced: u64, entry: &Entry) {
    put(out, sequence, synced, 1, |out| {
        put_position(out, entry.position);
        out.put_u8(entry.kind);
        out.put_slice(&entry.payload);
    });
}

/// Appends any other record to `out`.
pub(super) fn put_change(out: &mut Vec<u8>, sequence: u64, synced: u64, change: &Change) {
    match change {
        Change::Entry(entry) => put_entry(out, sequence, synced, entry),
        Change::Vote(vote) => put(out, sequence, synced, 2, |out| {
            out.put_u64_le(vote.term);
            out.put_u64_le(vote.node);
            out.put_u8(u8::from(vote.committed));
        }),
        Change::Truncate { from } => put(out, sequence, synced, 3, |out| out.put_u64_le(*from)),
        Change::Purge(position) => {
            put(out, sequence, synced, 4, |out| put_position(out, *position))
        }
    }
}

/// The bytes that an entry's record takes.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    PREFIX + BODY_HEAD + POSITION + 1 + entry.payload.len()
}

fn put(out: &mut Vec<u8>, sequence: u64, synced: u64, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u64_le(0);
    out.put_u64_le(sequence);
    out.put_u64_le(synced);
    out.put_u8(FORMAT);
    out.put_u8(kind);
    body(out);
    let length = out.len() - start - PREFIX;
    let checksum = crc32c::crc32c(&out[start + PREFIX..]);
    // A record is at most half a segment (see `log::writer`), far under 4 GiB.
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    out.put_u64_le(position.term);
    out.put_u64_le(position.leader);
    out.put_u64_le(position.index);
}

/// Reads what stands at the start of `bytes`, which run to the end of the segment.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    if bytes.len() < PREFIX {
        return if bytes.iter().all(|b| *b == 0) {
            Parsed::End
        } else {
            Parsed::Invalid("a cut record")
        };
    }
    let mut head = &bytes[..PREFIX];
    let length = head.get_u32_le() as usize;
    let checksum = head.get_u32_le();
    if length == 0 && checksum == 0 {
        return Parsed::End;
    }
    if length < BODY_HEAD || length > bytes.len() - PREFIX {
        return Parsed::Invalid("an impossible length");
    }
    let body = &bytes[PREFIX..PREFIX + length];
    if crc32c::crc32c(body) != checksum {
        return Parsed::Invalid("a wrong checksum");
    }
    match parse_body(body) {
        Some(record) => Parsed::Record(record, PREFIX + length),
        None => Parsed::Invalid("an unknown type or format"),
    }
}

fn parse_body(mut body: &[u8]) -> Option<Record> {
    let sequence = body.get_u64_le();
    let synced = body.get_u64_le();
    if body.get_u8() != FORMAT {
        return None;
    }
    let kind = body.get_u8();
    let change = match (kind, body.len()) {
        (1, n) if n > POSITION => Change::Entry(Entry {
            position: get_position(&mut body),
            kind: body.get_u8(),
            payload: Bytes::copy_from_slice(body),
        }),
        (2, 17) => Change::Vote(Vote {
            term: body.get_u64_le(),
            node: body.get_u64_le(),
            committed: body.get_u8() != 0,
        }),
        (3, 8) => Change::Truncate {
            from: body.get_u64_le(),
        },
        (4, POSITION) => Change::Purge(get_position(&mut body)),
        _ => return None,
    };
    Some(Record {
        sequence,
        synced,
        change,
    })
}

fn get_position(body: &mut &[u8]) -> Position {
    Position {
        term: body.get_u64_le(),
        leader: body.get_u64_le(),
        index: body.get_u64_le(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn position(term: u64, leader: u64, index: u64) -> Position {
        Position {
            term,
            leader,
            index,
        }
    }

    fn examples() -> Vec<Change> {
        vec![
            Change::Entry(Entry {
                position: position(3, 2, 41),
                kind: 1,
                payload: Bytes::from_static(b"payload"),
            }),
            Change::Vote(Vote {
                term: 3,
                node: 2,
                committed: true,
            }),
            Change::Truncate { from: 40 },
            Change::Purge(position(2, 1, 17)),
        ]
    }

    #[test]
    fn records_of_format_1_keep_their_bytes() {
        let mut bytes = Vec::new();
        for (number, change) in examples().iter().enumerate() {
            put_change(&mut bytes, 7 + number as u64, 6, change);
        }
        let golden = include_str!("golden/records-1.hex");
        assert_eq!(
            hex::encode(&bytes),
            golden.split_whitespace().collect::<String>()
        );
    }

    #[test]
    fn every_record_reads_back() {
        for change in examples() {
            let mut bytes = Vec::new();
            put_change(&mut bytes, 9, 4, &change);
            bytes.extend_from_slice(&[0; 16]);
            let Parsed::Record(record, length) = parse(&bytes) else {
                panic!("not a record: {change:?}")
            };
            assert_eq!(
                (record.sequence, record.synced, length),
                (9, 4, bytes.len() - 16)
            );
            assert_eq!(record.change, change);
            assert_eq!(parse(&bytes[length..]), Parsed::End);
        }
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        let mut bytes = Vec::new();
        put_change(&mut bytes, 9, 4, &examples()[0]);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(parse(&flipped), Parsed::Invalid(_)),
                "bit {bit}: {:?}",
                parse(&flipped)
            );
        }
    }
}
