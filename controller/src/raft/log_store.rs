//! openraft's log storage over the store's log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::{Semaphore, oneshot};

use super::payload;
use super::types::{Entry, LogId, Types, Vote, log_id, position, stored_vote, vote};
use crate::store::StoreError;
use crate::store::log::{Done, LogEngine, Position};
use crate::store::snapshot::Snapshots;
use crate::store::table::{Row, Table, Tables};

/// Bytes of entries that may wait for their sync. A disk that is slower than the network must slow the network down.
const UNSYNCED_BYTES: usize = 64 << 20;
/// Bytes of entries in one message to a follower, unless a single entry is larger.
const MESSAGE_BYTES: usize = 4 << 20;
/// Where the last committed position is noted.
const COMMITTED: &[u8] = b"committed";

/// The log as openraft sees it.
#[derive(Debug, Clone)]
pub(super) struct LogStore {
    engine: Arc<dyn LogEngine>,
    tables: Arc<Tables>,
    /// What a purge must be covered by; `None` only where openraft's own suite drives the log without snapshots.
    snapshots: Option<Snapshots>,
    unsynced: Arc<Semaphore>,
}

impl LogStore {
    pub(super) fn new(
        engine: Arc<dyn LogEngine>,
        tables: Arc<Tables>,
        snapshots: Option<Snapshots>,
    ) -> Self {
        Self {
            engine,
            tables,
            snapshots,
            unsynced: Arc::new(Semaphore::new(UNSYNCED_BYTES)),
        }
    }

    fn entries(&self, range: std::ops::Range<u64>, limit: usize) -> io::Result<Vec<Entry>> {
        // Mostly from memory; an entry that left it is read from the page cache, at most a few megabytes at a time.
        let found = self.engine.read(range, limit)?;
        found
            .into_iter()
            .map(|stored| payload::load(stored).map_err(io::Error::from))
            .collect()
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(start..end, usize::MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.engine.state().vote.map(vote))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.entries(start..end, MESSAGE_BYTES)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.engine.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(log_id),
            last_log_id: state.last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, result) = answer();
        self.engine.save_vote(stored_vote(vote), done);
        wait(result).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let value = committed.map(|id| encode(position(&id)).into());
        self.tables.note(vec![Row {
            table: Table::Hints,
            key: COMMITTED.into(),
            value,
        }]);
        Ok(())
    }

    /// A hint: it lets a restarted node show again what it showed before. It may be ahead of a log whose tail was not synced when others
    /// made the quorum; then it is not used.
    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let Some(value) = self.tables.get(Table::Hints, COMMITTED)? else {
            return Ok(None);
        };
        let Some(committed) = decode(&value) else {
            return Ok(None);
        };
        let found = self
            .engine
            .read(committed.index..committed.index + 1, usize::MAX)?;
        let is_present = found
            .first()
            .is_some_and(|entry| entry.position == committed);
        Ok(is_present.then(|| log_id(committed)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().map(payload::store).collect();
        let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        let wanted = bytes.clamp(1, UNSYNCED_BYTES) as u32;
        let room = self.unsynced.clone().acquire_many_owned(wanted).await;
        let room = room.map_err(io::Error::other)?;
        // Returns before the sync, and so the leader writes and replicates at once. This is safe only while a restarted leader does not
        // take leadership up again by itself (`Config::enable_leader_restore`).
        let done: Done = Box::new(move |result| {
            drop(room);
            callback.io_completed(result.map_err(io::Error::from));
        });
        self.engine.append(entries, done).map_err(io::Error::from)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let from = last_log_id.map_or(0, |id| id.index + 1);
        let (done, result) = answer();
        self.engine.truncate(from, done);
        wait(result).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        if let Some(snapshots) = &self.snapshots {
            let covered = snapshots
                .current()
                .and_then(|snapshot| snapshot.header().position);
            if covered.is_none_or(|covered| covered.index < upto.index) {
                let text = format!(
                    "the log may not be purged up to {}: no verified snapshot covers it",
                    upto.index
                );
                return Err(io::Error::other(text));
            }
        }
        let (done, result) = answer();
        self.engine.purge(position(&upto), done);
        wait(result).await
    }
}

fn answer() -> (Done, oneshot::Receiver<Result<(), StoreError>>) {
    let (sender, result) = oneshot::channel();
    // Nobody waits any more where Raft is shut down meanwhile.
    (Box::new(move |outcome| drop(sender.send(outcome))), result)
}

async fn wait(result: oneshot::Receiver<Result<(), StoreError>>) -> io::Result<()> {
    match result.await {
        Ok(outcome) => outcome.map_err(io::Error::from),
        Err(_) => Err(io::Error::other("the log's writer has ended")),
    }
}

fn encode(position: Position) -> Vec<u8> {
    [position.term, position.leader, position.index]
        .iter()
        .flat_map(|n| n.to_be_bytes())
        .collect()
}

fn decode(bytes: &[u8]) -> Option<Position> {
    let number = |at: usize| {
        bytes
            .get(at..at + 8)?
            .try_into()
            .ok()
            .map(u64::from_be_bytes)
    };
    Some(Position {
        term: number(0)?,
        leader: number(8)?,
        index: number(16)?,
    })
}
