//! The one thread that writes the log. Takes all jobs that wait, writes them, syncs once, then answers them in order.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::index::Index;
use super::record::{self, Change};
use super::recover::Tail;
use super::segment::{self, HEADER_BYTES, Header, Place};
use super::{Done, Entry, LogOptions, Position, Vote};
use crate::store::StoreError;
use crate::store::mark::{Mark, Water};

/// Bytes after which a group is synced even if more jobs wait: bounds how long the first of them waits.
const GROUP_BYTES: usize = 4 << 20;
/// Groups after which the high-water mark is moved under load.
const GROUPS_PER_MARK: u32 = 64;
/// Idle time after which it is moved.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a full disk is tried again. Nothing is lost meanwhile: no answer is given.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// One thing to write.
pub(super) enum Job {
    Append(Vec<Entry>, Done),
    Vote(Vote, Done),
    Truncate {
        from: u64,
        /// The last entry that it leaves.
        last: Option<Position>,
        done: Done,
    },
    Purge(Position, Done),
}

impl Job {
    pub(super) fn finish(self, result: Result<(), StoreError>) {
        match self {
            Self::Append(_, done)
            | Self::Vote(_, done)
            | Self::Truncate { done, .. }
            | Self::Purge(_, done) => done(result),
        }
    }
}

/// The writer's state; lives on its thread.
pub(super) struct Writer {
    options: LogOptions,
    index: Arc<Mutex<Index>>,
    queue: Receiver<Job>,
    file: File,
    number: u64,
    offset: u64,
    size: u64,
    next_sequence: u64,
    /// Every record up to here is durable.
    synced: u64,
    buffer: Vec<u8>,
    placed: Vec<(Position, Place)>,
    waiting: Vec<Done>,
    /// Where the log stands by what was written, in the order of the jobs: goes into the next segment's header.
    last: Option<Position>,
    purged: Option<Position>,
    vote: Option<Vote>,
    purging: bool,
    spare: Option<JoinHandle<Result<(), StoreError>>>,
    mark: Mark,
    groups_since_mark: u32,
    failed: Option<StoreError>,
}

impl Writer {
    pub(super) fn new(
        options: LogOptions,
        tail: Tail,
        mark: Mark,
        index: Arc<Mutex<Index>>,
        queue: Receiver<Job>,
    ) -> Self {
        let state = index
            .lock()
            .expect("nothing else has the index yet")
            .state();
        Self {
            options,
            index,
            queue,
            file: tail.file,
            number: tail.number,
            offset: tail.offset,
            size: tail.size,
            next_sequence: tail.next_sequence,
            synced: tail.next_sequence - 1,
            buffer: Vec::new(),
            placed: Vec::new(),
            waiting: Vec::new(),
            last: state.last,
            purged: state.purged,
            vote: state.vote,
            purging: false,
            spare: None,
            mark,
            groups_since_mark: 0,
            failed: None,
        }
    }

    pub(super) fn run(mut self) {
        self.prepare_spare();
        loop {
            match self.queue.recv_timeout(MARK_INTERVAL) {
                Ok(job) => self.group(job),
                Err(RecvTimeoutError::Timeout) => self.move_mark(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.move_mark();
        if let Some(spare) = self.spare.take()
            && let Ok(Err(error)) = spare.join()
        {
            tracing::warn!(error = error.full_text(), "no spare segment");
        }
    }

    /// One group commit: this job and all that wait behind it.
    fn group(&mut self, first: Job) {
        let mut next = Some(first);
        while let Some(job) = next {
            if let Some(error) = &self.failed {
                job.finish(Err(error.clone()));
            } else if let Err(error) = self.take(job) {
                self.fail(error);
            }
            next = match self.buffer.len() < GROUP_BYTES {
                true => self.queue.try_recv().ok(),
                false => None,
            };
        }
        if self.failed.is_none()
            && let Err(error) = self.commit()
        {
            self.fail(error);
        }
    }

    fn take(&mut self, job: Job) -> Result<(), StoreError> {
        match job {
            Job::Append(entries, done) => {
                self.waiting.push(done);
                for entry in &entries {
                    self.room(record::entry_bytes(entry))?;
                    let start = self.buffer.len();
                    record::put_entry(&mut self.buffer, self.next_sequence, self.synced, entry);
                    self.next_sequence += 1;
                    let place = Place {
                        segment: self.number,
                        offset: self.offset + start as u64,
                        length: (self.buffer.len() - start) as u32,
                    };
                    self.placed.push((entry.position, place));
                    self.last = Some(entry.position);
                }
            }
            Job::Vote(vote, done) => {
                self.waiting.push(done);
                self.put(&Change::Vote(vote))?;
                self.vote = Some(vote);
            }
            Job::Truncate { from, last, done } => {
                self.waiting.push(done);
                self.put(&Change::Truncate { from })?;
                self.last = last;
            }
            Job::Purge(position, done) => {
                self.waiting.push(done);
                self.put(&Change::Purge(position))?;
                self.purging = true;
                self.purged = Some(position);
                self.last = self
                    .last
                    .filter(|last| last.index > position.index)
                    .or(Some(position));
            }
        }
        Ok(())
    }

    fn put(&mut self, change: &Change) -> Result<(), StoreError> {
        // Any record but an entry is far under this.
        const SMALL_RECORD: usize = 128;
        self.room(SMALL_RECORD)?;
        record::put_change(&mut self.buffer, self.next_sequence, self.synced, change);
        self.next_sequence += 1;
        Ok(())
    }

    /// Makes sure that a record of `bytes` fits, in a new segment if need be.
    fn room(&mut self, bytes: usize) -> Result<(), StoreError> {
        let most = self.options.segment_bytes - HEADER_BYTES;
        if bytes as u64 > most {
            return Err(StoreError::Refused(format!(
                "a record of {bytes} bytes does not fit a segment, which takes {most}"
            )));
        }
        if self.offset + (self.buffer.len() + bytes) as u64 <= self.size {
            return Ok(());
        }
        self.write()?;
        self.rotate()
    }

    /// Writes and syncs what is buffered. After this every record so far is durable.
    fn write(&mut self) -> Result<(), StoreError> {
        let path = segment::file_path(&self.options.path, self.number);
        self.file
            .write_all_at(&self.buffer, self.offset)
            .map_err(|e| StoreError::io("write", &path, e))?;
        self.options
            .media
            .sync_data(&self.file)
            .map_err(|e| StoreError::io("sync", &path, e))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        self.synced = self.next_sequence - 1;
        let mut index = self
            .index
            .lock()
            .expect("the index is only held for short, panic-free sections");
        for (position, place) in self.placed.drain(..) {
            index.placed(position, place);
        }
        index.evict();
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.write()?;
        for done in self.waiting.drain(..) {
            done(Ok(()));
        }
        if std::mem::take(&mut self.purging) {
            self.remove_segments()?;
        }
        self.groups_since_mark += 1;
        if self.groups_since_mark >= GROUPS_PER_MARK {
            self.write_mark()?;
        }
        Ok(())
    }

    /// Begins the next segment in the spare file, waiting for room where the disk is full.
    fn rotate(&mut self) -> Result<(), StoreError> {
        loop {
            let made = match self.spare.take() {
                Some(spare) => spare.join().unwrap_or_else(|_| {
                    Err(StoreError::Closed(
                        "the thread that prepares segments panicked".into(),
                    ))
                }),
                None => segment::prepare_spare(
                    &self.options.path,
                    self.options.segment_bytes,
                    self.options.media.as_ref(),
                ),
            };
            match made {
                Ok(()) => break,
                Err(error) if error.is_full() => {
                    tracing::error!(
                        error = error.full_text(),
                        "the disk is full: the log waits for room, nothing is acknowledged"
                    );
                    std::thread::sleep(FULL_RETRY);
                }
                Err(error) => return Err(error),
            }
        }
        let header = Header {
            number: self.number + 1,
            directory: self.options.directory,
            first_sequence: self.next_sequence,
            purged: self.purged,
            last: self.last,
            vote: self.vote,
        };
        self.file = segment::begin(&self.options.path, &header, self.options.media.as_ref())?;
        self.number += 1;
        self.offset = HEADER_BYTES;
        self.size = self.options.segment_bytes;
        self.prepare_spare();
        Ok(())
    }

    /// Starts to make the next spare, beside the writing.
    fn prepare_spare(&mut self) {
        let options = self.options.clone();
        let spawned = std::thread::Builder::new()
            .name("log-spare".into())
            .spawn(move || {
                segment::prepare_spare(&options.path, options.segment_bytes, options.media.as_ref())
            });
        match spawned {
            Ok(handle) => self.spare = Some(handle),
            // It is made in line at the next rotation.
            Err(error) => tracing::warn!(%error, "cannot start the thread that prepares segments"),
        }
    }

    /// Removes the segments before the one that the oldest live entry stands in.
    fn remove_segments(&mut self) -> Result<(), StoreError> {
        let keep = {
            let index = self
                .index
                .lock()
                .expect("the index is only held for short, panic-free sections");
            match index.is_empty() {
                true => self.number,
                // An entry that is not written yet will stand in this segment or a later one.
                false => index.oldest_segment().unwrap_or(self.number),
            }
        };
        let numbers = segment::list(&self.options.path)?;
        let old: Vec<u64> = numbers
            .into_iter()
            .filter(|number| *number < keep.min(self.number))
            .collect();
        segment::remove(&self.options.path, &old, self.options.media.as_ref())
    }

    fn move_mark(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.write_mark()
        {
            self.fail(error);
        }
    }

    fn write_mark(&mut self) -> Result<(), StoreError> {
        self.groups_since_mark = 0;
        self.mark.write(Water {
            sequence: self.synced,
            last: self.last,
        })
    }

    /// The first failure ends the writing for good: after a failed sync the kernel may have dropped what it could not write, and a second
    /// sync would report success.
    fn fail(&mut self, error: StoreError) {
        tracing::error!(
            error = error.full_text(),
            "the log cannot be written any more"
        );
        for done in self.waiting.drain(..) {
            done(Err(error.clone()));
        }
        self.buffer.clear();
        self.placed.clear();
        self.failed = Some(StoreError::Closed(error.full_text()));
        (self.options.on_failure.0)(&error);
    }
}
