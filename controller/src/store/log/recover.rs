//! Opening a log: reads every segment, replays its records, and refuses what does not add up.
//!
//! One thing is repaired: a torn tail, that is, records that nobody was told are durable. It is recognised by two signs: no record
//! after it was written in the knowledge that it is durable (`synced`), and the high-water mark lies before it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::index::Index;
use super::record::{self, Change, Parsed, Record};
use super::segment::{self, HEADER_BYTES, Header, Place};
use super::{LogOptions, Position};
use crate::store::StoreError;
use crate::store::mark::Mark;
use crate::store::media::open_file;

/// How far ahead a sequence number after a torn record can be: far more than one group of writes holds.
const SEQUENCE_WINDOW: u64 = 1 << 24;

/// Where the writer goes on.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) number: u64,
    pub(super) file: File,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) next_sequence: u64,
}

#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) tail: Tail,
    pub(super) mark: Mark,
}

pub(super) fn recover(options: &LogOptions) -> Result<Recovered, StoreError> {
    let mark = Mark::open(&options.path)?;
    let numbers = segment::list(&options.path)?;
    check_numbers(&options.path, &numbers)?;
    let mut replay = Replay::new(options, mark.water().sequence);
    let mut tail = None;
    for (at, number) in numbers.iter().enumerate() {
        let (header, bytes) = segment::read(options, *number)?;
        let is_last = at + 1 == numbers.len();
        replay.begin(&header, at == 0)?;
        let end = replay.scan(&header, &bytes, is_last)?;
        if is_last {
            tail = Some(open_tail(options, &header, &bytes, end)?);
        }
    }
    let Some((number, file, offset, size)) = tail else {
        return Err(StoreError::damaged(&options.path, "it has no segment"));
    };
    let next_sequence = replay.next_sequence;
    let index = replay.finish()?;
    Ok(Recovered {
        index,
        tail: Tail {
            number,
            file,
            offset,
            size,
            next_sequence,
        },
        mark,
    })
}

fn check_numbers(path: &Path, numbers: &[u64]) -> Result<(), StoreError> {
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(StoreError::damaged(
                path,
                format!("segment {:016x} is missing", pair[0] + 1),
            ));
        }
    }
    Ok(())
}

/// Opens the last segment for writing and zeros what a torn write left behind its end.
fn open_tail(
    options: &LogOptions,
    header: &Header,
    bytes: &[u8],
    end: u64,
) -> Result<(u64, File, u64, u64), StoreError> {
    let path = segment::file_path(&options.path, header.number);
    let file = open_file(&path)?;
    let rest = &bytes[end as usize..];
    if let Some(dirty) = rest.iter().rposition(|b| *b != 0) {
        file.write_all_at(&vec![0; dirty + 1], end)
            .map_err(|e| StoreError::io("write", &path, e))?;
        tracing::warn!(
            segment = %path.display(), offset = end, bytes = dirty + 1,
            "removed a torn write from the end of the log; nobody was told that it was durable"
        );
    }
    // What was read may stand in the page cache only, if an earlier process was killed between its write and its sync.
    options
        .media
        .sync_data(&file)
        .map_err(|e| StoreError::io("sync", &path, e))?;
    Ok((header.number, file, end, bytes.len() as u64))
}

/// The replay of all records in order.
struct Replay<'a> {
    options: &'a LogOptions,
    index: Index,
    next_sequence: u64,
    /// The sequence number that the high-water mark vouches for.
    marked: u64,
    purged: Option<Position>,
    /// Entries up to here stood in segments that were removed.
    base: Option<Position>,
}

impl<'a> Replay<'a> {
    fn new(options: &'a LogOptions, marked: u64) -> Self {
        Self {
            options,
            index: Index::new(options.cache_bytes),
            next_sequence: 1,
            marked,
            purged: None,
            base: None,
        }
    }

    /// Takes over, or compares with, what the segment's header says was true when it was begun.
    fn begin(&mut self, header: &Header, is_first: bool) -> Result<(), StoreError> {
        let path = segment::file_path(&self.options.path, header.number);
        if !is_first {
            let state = self.index.state();
            let last = match self.index.is_empty() {
                true => self.purged,
                false => state.last,
            };
            if header.first_sequence != self.next_sequence
                || header.vote != state.vote
                || (self.base.is_none() && header.last != last)
            {
                return Err(StoreError::damaged(
                    &path,
                    format!(
                        "it goes on at record {}, the segments before it end at record {}",
                        header.first_sequence,
                        self.next_sequence - 1
                    ),
                ));
            }
            return Ok(());
        }
        self.next_sequence = header.first_sequence;
        self.purged = header.purged;
        self.base = header
            .last
            .filter(|last| header.purged.is_none_or(|purged| purged.index < last.index));
        self.index.set_purged(self.base.or(header.purged));
        if let Some(vote) = header.vote {
            self.index.set_vote(vote);
        }
        Ok(())
    }

    /// Replays a segment's records; answers where they end.
    fn scan(&mut self, header: &Header, bytes: &[u8], is_last: bool) -> Result<u64, StoreError> {
        let path = segment::file_path(&self.options.path, header.number);
        let mut offset = HEADER_BYTES as usize;
        loop {
            let what = match record::parse(&bytes[offset..]) {
                Parsed::Record(found, length) if found.sequence == self.next_sequence => {
                    let place = Place {
                        segment: header.number,
                        offset: offset as u64,
                        length: length as u32,
                    };
                    self.apply(&path, found, place)?;
                    offset += length;
                    continue;
                }
                Parsed::Record(found, _) => format!(
                    "record {} instead of {}",
                    found.sequence, self.next_sequence
                ),
                Parsed::End if bytes[offset..].iter().all(|b| *b == 0) => String::from("zeros"),
                Parsed::End => String::from("zeros before other bytes"),
                Parsed::Invalid(what) => what.to_owned(),
            };
            self.check_end(&path, &bytes[offset..], offset, &what, is_last)?;
            return Ok(offset as u64);
        }
    }

    /// The record at `offset` cannot be read: decides whether somebody was told that it is there.
    fn check_end(
        &self,
        path: &Path,
        rest: &[u8],
        offset: usize,
        what: &str,
        is_last: bool,
    ) -> Result<(), StoreError> {
        let expected = self.next_sequence;
        let damaged = |why: String| {
            Err(StoreError::damaged(
                path,
                format!(
                    "at byte {offset}, where record {expected} should be, it has {what}, and {why}"
                ),
            ))
        };
        if what == "zeros" && !is_last {
            // The next record did not fit. The next segment's header says whether one is missing.
            return Ok(());
        }
        if self.marked >= expected {
            return damaged(format!(
                "the high-water mark says that record {} was durable",
                self.marked
            ));
        }
        if what == "zeros" {
            return Ok(());
        }
        if !is_last {
            return damaged("a later segment exists".into());
        }
        match find_later(rest, expected) {
            Some(later) => damaged(format!(
                "record {} behind it was written in the knowledge that it was durable",
                later.sequence
            )),
            None => Ok(()),
        }
    }

    fn apply(&mut self, path: &Path, found: Record, place: Place) -> Result<(), StoreError> {
        self.next_sequence += 1;
        match found.change {
            Change::Vote(vote) => self.index.set_vote(vote),
            Change::Truncate { from } => self.truncate(from),
            Change::Purge(position) => {
                self.purged = Some(position);
                self.index.purge(position);
                if self.base.is_some_and(|base| base.index <= position.index) {
                    self.base = None;
                }
            }
            Change::Entry(entry) => self
                .index
                .push(entry.position, entry.kind, Some(entry.payload), Some(place))
                .map_err(|e| {
                    StoreError::damaged(path, format!("record {}: {e}", found.sequence))
                })?,
        }
        Ok(())
    }

    fn truncate(&mut self, from: u64) {
        self.index.truncate(from);
        if let Some(base) = &mut self.base
            && from <= base.index
        {
            // The entries that went stood in removed segments; so does the one before them.
            *base = Position {
                index: from.saturating_sub(1),
                ..Position::default()
            };
            self.index.set_purged(Some(*base));
        }
    }

    fn finish(mut self) -> Result<Index, StoreError> {
        let path = &self.options.path;
        if let Some(base) = self.base {
            return Err(StoreError::damaged(
                path,
                format!(
                    "the entries up to {} are missing and no snapshot covers them",
                    base.index
                ),
            ));
        }
        self.index.set_purged(self.purged);
        let mut before = self.purged.map_or(0, |purged| purged.term);
        for position in self.index.positions() {
            if position.term < before {
                return Err(StoreError::damaged(
                    path,
                    format!(
                        "entry {} has a lower term than the one before it",
                        position.index
                    ),
                ));
            }
            before = position.term;
        }
        let voted = self.index.state().vote.map_or(0, |vote| vote.term);
        if before > voted {
            return Err(StoreError::damaged(
                path,
                format!("it has entries of term {before}, and its newest vote is of term {voted}"),
            ));
        }
        Ok(self.index)
    }
}

/// A whole record behind an unreadable one that knows record `expected` to be durable.
fn find_later(rest: &[u8], expected: u64) -> Option<Record> {
    let window = expected + 1..expected + SEQUENCE_WINDOW;
    for offset in 1..rest.len().saturating_sub(record::PREFIX + 8) {
        let number = &rest[offset + record::PREFIX..][..8];
        let sequence = u64::from_le_bytes(number.try_into().expect("a slice of eight bytes"));
        if !window.contains(&sequence) {
            continue;
        }
        if let Parsed::Record(found, _) = record::parse(&rest[offset..])
            && found.synced >= expected
        {
            return Some(found);
        }
    }
    None
}
