//! What the log holds, in memory: positions of all live entries, payloads of the newest.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use super::segment::Place;
use super::{Entry, LogState, Position, Vote, segment};
use crate::store::StoreError;

/// The live part of the log.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: VecDeque<Slot>,
    purged: Option<Position>,
    vote: Option<Vote>,
    cached_bytes: usize,
    cache_limit: usize,
    /// Slots before this offset have no payload in memory.
    evicted: usize,
}

/// One live entry.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    position: Position,
    kind: u8,
    payload: Option<Bytes>,
    /// Known once it was written.
    place: Option<Place>,
}

impl Index {
    pub(super) fn new(cache_limit: usize) -> Self {
        Self {
            cache_limit,
            ..Self::default()
        }
    }

    pub(super) fn state(&self) -> LogState {
        LogState {
            purged: self.purged,
            last: self.last(),
            vote: self.vote,
        }
    }

    fn last(&self) -> Option<Position> {
        self.slots.back().map(|slot| slot.position).or(self.purged)
    }

    pub(super) fn set_vote(&mut self, vote: Vote) {
        self.vote = Some(vote);
    }

    pub(super) fn set_purged(&mut self, purged: Option<Position>) {
        self.purged = purged;
    }

    /// Where the log begins, as an index. `None`: empty.
    pub(super) fn first(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.position.index)
    }

    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        for entry in entries {
            self.push(
                entry.position,
                entry.kind,
                Some(entry.payload.clone()),
                None,
            )?;
        }
        Ok(())
    }

    /// Adds one entry, refusing a hole: Raft looks only at the last position to know that all before it is there.
    pub(super) fn push(
        &mut self,
        position: Position,
        kind: u8,
        payload: Option<Bytes>,
        place: Option<Place>,
    ) -> Result<(), StoreError> {
        if let Some(last) = self.last()
            && position.index != last.index + 1
        {
            return Err(StoreError::Refused(format!(
                "entry {} would leave a hole in the log, which ends at {}",
                position.index, last.index
            )));
        }
        self.cached_bytes += payload.as_ref().map_or(0, Bytes::len);
        self.slots.push_back(Slot {
            position,
            kind,
            payload,
            place,
        });
        self.evict();
        Ok(())
    }

    /// Notes where an entry was written, if it is still the same entry.
    pub(super) fn placed(&mut self, position: Position, place: Place) {
        if let Some(offset) = self.offset(position.index)
            && self.slots[offset].position == position
        {
            self.slots[offset].place = Some(place);
        }
    }

    /// Drops the oldest payloads that can be read from the disk again.
    pub(super) fn evict(&mut self) {
        while self.cached_bytes > self.cache_limit && self.evicted < self.slots.len() {
            let slot = &mut self.slots[self.evicted];
            if slot.place.is_none() {
                return;
            }
            self.cached_bytes -= slot.payload.take().map_or(0, |p| p.len());
            self.evicted += 1;
        }
    }

    pub(super) fn truncate(&mut self, from: u64) {
        while let Some(slot) = self.slots.pop_back() {
            if slot.position.index < from {
                self.slots.push_back(slot);
                break;
            }
            self.cached_bytes -= slot.payload.map_or(0, |p| p.len());
        }
        self.evicted = self.evicted.min(self.slots.len());
    }

    pub(super) fn purge(&mut self, position: Position) {
        while let Some(slot) = self.slots.pop_front() {
            if slot.position.index > position.index {
                self.slots.push_front(slot);
                break;
            }
            self.cached_bytes -= slot.payload.map_or(0, |p| p.len());
            self.evicted = self.evicted.saturating_sub(1);
        }
        if self
            .purged
            .is_none_or(|purged| purged.index < position.index)
        {
            self.purged = Some(position);
        }
    }

    /// The oldest segment that a live entry stands in.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.slots
            .front()
            .and_then(|slot| slot.place)
            .map(|place| place.segment)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn offset(&self, index: u64) -> Option<usize> {
        let first = self.first()?;
        let offset = usize::try_from(index.checked_sub(first)?).ok()?;
        (offset < self.slots.len()).then_some(offset)
    }

    /// The slots of a range, cut at about `limit_bytes`.
    pub(super) fn find(&self, range: Range<u64>, limit_bytes: usize) -> Vec<Slot> {
        let Some(first) = self.first() else {
            return Vec::new();
        };
        let start = range.start.max(first);
        let end = range.end.min(first + self.slots.len() as u64);
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in start..end {
            let slot = &self.slots[(index - first) as usize];
            bytes += slot.bytes();
            if bytes > limit_bytes && !found.is_empty() {
                break;
            }
            found.push(slot.clone());
        }
        found
    }

    /// Positions in order, for checks.
    pub(super) fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        self.slots.iter().map(|slot| slot.position)
    }
}

impl Slot {
    pub(super) fn position(&self) -> Position {
        self.position
    }

    fn bytes(&self) -> usize {
        match (&self.payload, self.place) {
            (Some(payload), _) => payload.len(),
            (None, Some(place)) => place.length as usize,
            (None, None) => 0,
        }
    }

    /// The entry, from memory or from its segment.
    pub(super) fn load(self, path: &Path) -> Result<Entry, StoreError> {
        let payload = match (self.payload, self.place) {
            (Some(payload), _) => payload,
            (None, Some(place)) => segment::read_entry(path, place, self.position)?.payload,
            (None, None) => Bytes::new(),
        };
        Ok(Entry {
            position: self.position,
            kind: self.kind,
            payload,
        })
    }
}
