//! The log: entries and votes in checksummed, preallocated segment files, one writer thread, group commit.
//!
//! An answer is given only after the data was synced. Reads see an entry as soon as `append` has returned.

mod index;
mod record;
mod recover;
mod segment;
mod writer;

use std::fmt::Debug;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::StoreError;
use super::directory::DirectoryId;
use super::mark;
use super::media::{self, Media};
use index::Index;
use writer::{Job, Writer};

/// The size of a segment. Large enough that a rotation is rare, small enough that purging gives room back soon and that opening reads it at once.
pub const SEGMENT_BYTES: u64 = 16 << 20;
/// Entries kept in memory for followers and for applying; older ones are read from their segment.
pub const CACHE_BYTES: usize = 32 << 20;

/// Where an entry stands: who led when it was written, and its place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The election term.
    pub term: u64,
    /// The node that led it.
    pub leader: u64,
    /// The place in the log.
    pub index: u64,
}

/// For whom this node voted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote {
    /// The election term.
    pub term: u64,
    /// The candidate or leader.
    pub node: u64,
    /// Whether a quorum is known to have agreed.
    pub committed: bool,
}

/// One entry. What `kind` and `payload` mean is the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub position: Position,
    /// The caller's tag.
    pub kind: u8,
    /// The caller's bytes.
    pub payload: Bytes,
}

/// What the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogState {
    /// The last entry that was purged.
    pub purged: Option<Position>,
    /// The last entry, or the purged one where there is none after it.
    pub last: Option<Position>,
    /// The newest vote.
    pub vote: Option<Vote>,
}

/// Called once with the outcome of a write, from the writer's thread and in the order of the calls.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What Raft needs of a log. All writes are carried out in the order of the calls.
pub trait LogEngine: Send + Sync + Debug + 'static {
    /// Purged, last and vote.
    fn state(&self) -> LogState;

    /// Entries of `range` that are in the log, in order, without holes, at most about `limit_bytes` of them but always one where there is one.
    fn read(&self, range: Range<u64>, limit_bytes: usize) -> Result<Vec<Entry>, StoreError>;

    /// Adds entries to the end. They can be read at once; `done` is called when they are durable.
    fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), StoreError>;

    /// Replaces the vote.
    fn save_vote(&self, vote: Vote, done: Done);

    /// Removes the entries from index `from` on.
    fn truncate(&self, from: u64, done: Done);

    /// Removes the entries up to `position`, which a verified snapshot covers.
    fn purge(&self, position: Position, done: Done);

    /// Bytes on the disk.
    fn disk_bytes(&self) -> u64;
}

/// How to open a log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The directory of the segments.
    pub path: PathBuf,
    /// Whose it is.
    pub directory: DirectoryId,
    /// The size of a segment.
    pub segment_bytes: u64,
    /// Bytes of entries kept in memory.
    pub cache_bytes: usize,
    /// How bytes are made durable.
    pub media: Arc<dyn Media>,
    /// Told of the first failed write or sync. The product ends the process there.
    pub on_failure: OnFailure,
}

/// What to do at the first failed write or sync.
#[derive(Clone)]
pub struct OnFailure(pub Arc<dyn Fn(&StoreError) + Send + Sync>);

impl Debug for OnFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnFailure")
    }
}

impl LogOptions {
    /// The product's settings for a log in `path`.
    pub fn new(
        path: impl Into<PathBuf>,
        directory: DirectoryId,
        media: Arc<dyn Media>,
        on_failure: OnFailure,
    ) -> Self {
        Self {
            path: path.into(),
            directory,
            segment_bytes: SEGMENT_BYTES,
            cache_bytes: CACHE_BYTES,
            media,
            on_failure,
        }
    }
}

/// The segment log.
#[derive(Debug)]
pub struct SegmentLog {
    index: Arc<Mutex<Index>>,
    path: PathBuf,
    segment_bytes: u64,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl SegmentLog {
    /// Makes an empty log in a directory that has none.
    pub fn create(options: &LogOptions) -> Result<(), StoreError> {
        media::make_directory(options.media.as_ref(), &options.path)?;
        if segment::list(&options.path)?.is_empty() {
            mark::Mark::create(&options.path, options.media.as_ref())?;
            segment::create_first(options)?;
        }
        Ok(())
    }

    /// Opens and verifies a log: checksums, contiguity, terms, the high-water mark. Reads every segment once.
    pub fn open(options: LogOptions) -> Result<Self, StoreError> {
        let recovered = recover::recover(&options)?;
        let index = Arc::new(Mutex::new(recovered.index));
        let (jobs, queue) = mpsc::channel();
        let path = options.path.clone();
        let segment_bytes = options.segment_bytes;
        let writer = Writer::new(
            options,
            recovered.tail,
            recovered.mark,
            index.clone(),
            queue,
        );
        let thread = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || writer.run())
            .map_err(|e| StoreError::io("start the writer thread of", &path, e))?;
        Ok(Self {
            index,
            path,
            segment_bytes,
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index
            .lock()
            .expect("the index is only held for short, panic-free sections")
    }

    fn send(&self, job: Job) {
        let Some(jobs) = &self.jobs else { return };
        if let Err(refused) = jobs.send(job) {
            refused
                .0
                .finish(Err(StoreError::Closed("the writer has ended".into())));
        }
    }
}

impl LogEngine for SegmentLog {
    fn state(&self) -> LogState {
        self.index().state()
    }

    fn read(&self, range: Range<u64>, limit_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        loop {
            // Two steps, so that a read from the disk does not hold up the writer.
            let found = self.index().find(range.clone(), limit_bytes);
            let first = found.first().map(index::Slot::position);
            let loaded = found
                .into_iter()
                .map(|slot| slot.load(&self.path))
                .collect();
            let purged = self.index().state().purged;
            // A segment may be removed between the steps; then its entries are purged, and the range starts later.
            let overtaken =
                first.is_some_and(|first| purged.is_some_and(|purged| purged.index >= first.index));
            match loaded {
                Err(_) if overtaken => continue,
                loaded => return loaded,
            }
        }
    }

    fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), StoreError> {
        let most = (self.segment_bytes - segment::HEADER_BYTES) as usize;
        if let Some(entry) = entries
            .iter()
            .find(|entry| record::entry_bytes(entry) > most)
        {
            return Err(StoreError::Refused(format!(
                "entry {} has {} bytes, a segment takes {most}",
                entry.position.index,
                entry.payload.len()
            )));
        }
        // The queue is filled under the lock, so that it has the order of the index.
        let mut index = self.index();
        index.append(&entries)?;
        self.send(Job::Append(entries, done));
        Ok(())
    }

    fn save_vote(&self, vote: Vote, done: Done) {
        let mut index = self.index();
        index.set_vote(vote);
        self.send(Job::Vote(vote, done));
    }

    fn truncate(&self, from: u64, done: Done) {
        let mut index = self.index();
        index.truncate(from);
        let last = index.state().last;
        self.send(Job::Truncate { from, last, done });
    }

    fn purge(&self, position: Position, done: Done) {
        let mut index = self.index();
        index.purge(position);
        self.send(Job::Purge(position, done));
    }

    fn disk_bytes(&self) -> u64 {
        segment::disk_bytes(&self.path)
    }
}

impl Drop for SegmentLog {
    /// Lets the writer finish what was queued, sync it and write the mark.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's writer thread panicked");
        }
    }
}

/// The segments' directory under a data directory.
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

#[cfg(test)]
mod tests;
