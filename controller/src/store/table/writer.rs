//! The one thread that writes the tables: applies all batches that wait, flushes and syncs once, then answers.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{COMMITS, LARGEST_VALUE, Row, Table, failure, row};
use crate::store::StoreError;
use crate::store::log::{Done, OnFailure};
use crate::store::mark::{Mark, Water};
use crate::store::media::Media;

/// Idle time after which rows that were only noted become durable and the mark moves.
const IDLE: Duration = Duration::from_secs(1);
/// Batches applied before a sync, at most.
const GROUP: usize = 256;
/// Durable groups after which the high-water mark is moved under load.
const GROUPS_PER_MARK: u64 = 64;

/// Rows to write, and whom to tell once they are durable.
pub(super) struct Job {
    pub(super) rows: Vec<Row>,
    pub(super) done: Option<Done>,
}

impl Job {
    pub(super) fn finish(self, result: Result<(), StoreError>) {
        if let Some(done) = self.done {
            done(result);
        }
    }
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) db: sled::Db,
    pub(super) file: File,
    pub(super) trees: Vec<sled::Tree>,
    pub(super) media: Arc<dyn Media>,
    pub(super) on_failure: OnFailure,
    pub(super) queue: Receiver<Job>,
    pub(super) mark: Mark,
    pub(super) commits: u64,
    pub(super) failed: Option<StoreError>,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut noted = false;
        loop {
            match self.queue.recv_timeout(IDLE) {
                Ok(job) => noted = self.group(job, noted),
                Err(RecvTimeoutError::Timeout) => noted = self.settle(noted),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.settle(noted);
    }

    /// Applies this batch and those that wait behind it; answers whether something is left that is not durable.
    fn group(&mut self, first: Job, noted: bool) -> bool {
        let mut next = Some(first);
        let mut waiting = Vec::new();
        for _ in 0..GROUP {
            let Some(job) = next.take().or_else(|| self.queue.try_recv().ok()) else {
                break;
            };
            if let Some(error) = &self.failed {
                job.finish(Err(error.clone()));
                continue;
            }
            match self.apply(&job.rows) {
                Ok(()) => waiting.extend(job.done),
                Err(error @ StoreError::Refused(_)) => job.finish(Err(error)),
                Err(error) => {
                    job.finish(Err(error.clone()));
                    self.fail(&error);
                }
            }
        }
        if waiting.is_empty() {
            return self.failed.is_none() || noted;
        }
        let result = self.commit();
        if let Err(error) = &result {
            self.fail(error);
        }
        for done in waiting {
            done(result.clone());
        }
        false
    }

    fn settle(&mut self, noted: bool) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let settled = match noted {
            true => self.commit().and_then(|()| self.write_mark()),
            false => self.write_mark(),
        };
        if let Err(error) = settled {
            self.fail(&error);
        }
        false
    }

    fn apply(&self, rows: &[Row]) -> Result<(), StoreError> {
        if let Some(large) = rows
            .iter()
            .find(|row| row.value.as_ref().is_some_and(|v| v.len() > LARGEST_VALUE))
        {
            return Err(StoreError::Refused(format!(
                "a row of table {} is larger than {LARGEST_VALUE} bytes",
                large.table.name()
            )));
        }
        for change in rows {
            let tree = &self.trees[change.table as usize];
            let written = match &change.value {
                Some(value) => {
                    tree.insert(&change.key, row::encode(change.table, &change.key, value))
                }
                None => tree.remove(&change.key),
            };
            written.map_err(|e| failure(&self.path, "write a row of", e))?;
        }
        Ok(())
    }

    /// Makes everything applied so far durable: sled's flush writes, the sync after it makes it last.
    fn commit(&mut self) -> Result<(), StoreError> {
        let commits = self.commits + 1;
        let value = row::encode(Table::Meta, COMMITS, &commits.to_le_bytes());
        self.trees[Table::Meta as usize]
            .insert(COMMITS, value)
            .map_err(|e| failure(&self.path, "write a row of", e))?;
        self.db
            .flush()
            .map_err(|e| failure(&self.path, "flush", e))?;
        self.media
            .sync_data(&self.file)
            .map_err(|e| StoreError::io("sync", &self.path, e))?;
        self.commits = commits;
        if commits.is_multiple_of(GROUPS_PER_MARK) {
            self.write_mark()?;
        }
        Ok(())
    }

    fn write_mark(&mut self) -> Result<(), StoreError> {
        self.mark.write(Water {
            sequence: self.commits,
            last: None,
        })
    }

    fn fail(&mut self, error: &StoreError) {
        tracing::error!(
            error = error.full_text(),
            "the tables cannot be written any more"
        );
        self.failed = Some(StoreError::Closed(error.full_text()));
        (self.on_failure.0)(error);
    }
}
