//! What is written, made from its number alone, so that whoever reads it knows what it must be.

use bytes::Bytes;
use maille_controller::store::log::{Entry, Position};

/// The node that leads every term.
const LEADER: u64 = 1;

/// The entry at `index` in `term`.
pub fn entry(term: u64, index: u64) -> Entry {
    Entry {
        position: position(term, index),
        kind: 1,
        payload: bytes(term << 32 | index, 40 + index as usize % 400),
    }
}

/// Its position.
pub fn position(term: u64, index: u64) -> Position {
    Position {
        term,
        leader: LEADER,
        index,
    }
}

/// The row with this number.
pub fn row(number: u64) -> Bytes {
    bytes(number, 100 + number as usize % 200)
}

/// The body of the snapshot at `index`.
pub fn snapshot(index: u64) -> Bytes {
    bytes(index, 50_000 + index as usize % 10_000)
}

fn bytes(number: u64, length: usize) -> Bytes {
    let piece = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    piece.iter().copied().cycle().take(length).collect()
}
