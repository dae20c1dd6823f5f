//! A log that breaks its word: it answers an append at once and writes it a while later.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use maille_controller::store::StoreError;
use maille_controller::store::log::{Done, Entry, LogEngine, LogState, Position, SegmentLog, Vote};

/// How long entries are held back that were reported as durable.
const HELD_FOR: Duration = Duration::from_millis(200);

/// The log.
#[derive(Debug)]
pub struct EarlyLog(Arc<Held>);

#[derive(Debug)]
struct Held {
    log: SegmentLog,
    /// Acknowledged, not yet given to the log; they follow what is in it.
    entries: Mutex<Vec<Entry>>,
}

impl EarlyLog {
    /// Breaks the word of `log`.
    pub fn new(log: SegmentLog) -> Self {
        let held = Arc::new(Held {
            log,
            entries: Mutex::default(),
        });
        let weak = Arc::downgrade(&held);
        std::thread::spawn(move || write_late(&weak));
        Self(held)
    }
}

fn write_late(held: &Weak<Held>) {
    while let Some(held) = held.upgrade() {
        if let Err(error) = held.give(&mut held.entries()) {
            eprintln!("the late write failed: {error}");
            return;
        }
        drop(held);
        std::thread::sleep(HELD_FOR);
    }
}

impl Held {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries
            .lock()
            .expect("no holder of the entries panics")
    }

    fn give(&self, entries: &mut Vec<Entry>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        // Whoever waited was answered long ago.
        self.log.append(std::mem::take(entries), Box::new(drop))
    }
}

impl LogEngine for EarlyLog {
    fn state(&self) -> LogState {
        let entries = self.0.entries();
        let state = self.0.log.state();
        let last = entries.last().map(|entry| entry.position);
        LogState {
            last: last.or(state.last),
            ..state
        }
    }

    fn read(&self, range: Range<u64>, limit_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        let entries = self.0.entries();
        let mut found = self.0.log.read(range.clone(), limit_bytes)?;
        let wanted = entries
            .iter()
            .filter(|entry| range.contains(&entry.position.index));
        for entry in wanted {
            // Whatever the limit left out, there must be no hole.
            let follows = found
                .last()
                .is_none_or(|last| last.position.index + 1 == entry.position.index);
            if follows {
                found.push(entry.clone());
            }
        }
        Ok(found)
    }

    fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), StoreError> {
        self.0.entries().extend(entries);
        done(Ok(()));
        Ok(())
    }

    fn save_vote(&self, vote: Vote, done: Done) {
        self.0.log.save_vote(vote, done);
    }

    fn truncate(&self, from: u64, done: Done) {
        let mut entries = self.0.entries();
        match self.0.give(&mut entries) {
            Ok(()) => self.0.log.truncate(from, done),
            Err(error) => done(Err(error)),
        }
    }

    fn purge(&self, position: Position, done: Done) {
        let mut entries = self.0.entries();
        match self.0.give(&mut entries) {
            Ok(()) => self.0.log.purge(position, done),
            Err(error) => done(Err(error)),
        }
    }

    fn disk_bytes(&self) -> u64 {
        self.0.log.disk_bytes()
    }
}
