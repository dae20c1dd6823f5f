//! Tables in sled: what is looked up, not replayed.
//!
//! sled's own `flush` does not reach the disk for good, so it is followed by a sync of its file; it loses a cut tail in silence, so a
//! high-water mark stands beside it; it panics where others return an error, so it is opened behind a catch.

mod row;
mod writer;

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::StoreError;
use super::log::{Done, OnFailure};
use super::mark::Mark;
use super::media::{self, Media};
use writer::{Job, Writer};

/// sled's page cache. Its default is a gigabyte; the tables are small and read seldom.
const CACHE_BYTES: u64 = 16 << 20;
/// The largest value: far under what sled would move to a blob file of its own.
pub const LARGEST_VALUE: usize = 64 << 10;
/// Batches that may wait for the writer; a caller that brings more waits.
const WAITING_BATCHES: usize = 1024;
/// Where the number of the last durable batch stands.
const COMMITS: &[u8] = b"commits";

/// The tables. A closed list: a name is part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The store's own rows.
    Meta,
    /// What saves work at a restart and is never relied upon.
    Hints,
    /// Issuance records by number.
    Issuance,
    /// Join tokens by id.
    Tokens,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 4] = [Self::Meta, Self::Hints, Self::Issuance, Self::Tokens];

    fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Hints => "hints",
            Self::Issuance => "issuance",
            Self::Tokens => "tokens",
        }
    }
}

/// One change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where.
    pub table: Table,
    /// Under which key.
    pub key: Bytes,
    /// The value; `None` removes the row.
    pub value: Option<Bytes>,
}

/// The open tables.
#[derive(Debug)]
pub struct Tables {
    path: PathBuf,
    trees: Vec<sled::Tree>,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Tables {
    /// Opens the tables in `path`, making them where there are none, and checks every row.
    pub fn open(
        path: &Path,
        media: Arc<dyn Media>,
        on_failure: OnFailure,
    ) -> Result<Self, StoreError> {
        let is_new = !path.exists();
        media::make_directory(media.as_ref(), path)?;
        if is_new {
            Mark::create(path, media.as_ref())?;
        }
        remove_unfinished(path)?;
        let mark = Mark::open(path)?;
        let (db, trees) = open_sled(path)?;
        let file = media::open_file(&path.join("db"))?;
        let commits = verify(path, &trees, &mark)?;
        if is_new {
            make_durable(&db, &file, path, media.as_ref())?;
        }
        let (jobs, queue) = mpsc::sync_channel(WAITING_BATCHES);
        let writer = Writer {
            path: path.to_path_buf(),
            db,
            file,
            trees: trees.clone(),
            media,
            on_failure,
            queue,
            mark,
            commits,
            failed: None,
        };
        let thread = std::thread::Builder::new()
            .name("table-writer".into())
            .spawn(move || writer.run())
            .map_err(|e| StoreError::io("start the writer thread of", path, e))?;
        Ok(Self {
            path: path.to_path_buf(),
            trees,
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// A row's value.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self
            .tree(table)
            .get(key)
            .map_err(|e| self.failure("read a row of", e))?;
        found
            .map(|value| row::decode(&self.path, table, key, &value))
            .transpose()
    }

    /// Up to `limit` rows from `key` on, in the order of the keys.
    pub fn scan(
        &self,
        table: Table,
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut rows = Vec::new();
        for found in self.tree(table).range(from..).take(limit) {
            let (key, value) = found.map_err(|e| self.failure("read a row of", e))?;
            let value = row::decode(&self.path, table, &key, &value)?;
            rows.push((Bytes::copy_from_slice(&key), value));
        }
        Ok(rows)
    }

    /// Writes rows; `done` is called when they are durable. Waits only where many batches wait already.
    pub fn write(&self, rows: Vec<Row>, done: Done) {
        self.send(Job {
            rows,
            done: Some(done),
        });
    }

    /// Writes rows that need not be durable: the next durable batch takes them along.
    pub fn note(&self, rows: Vec<Row>) {
        self.send(Job { rows, done: None });
    }

    /// Bytes on the disk.
    pub fn disk_bytes(&self) -> u64 {
        fs::metadata(self.path.join("db")).map_or(0, |m| m.len())
    }

    fn tree(&self, table: Table) -> &sled::Tree {
        &self.trees[table as usize]
    }

    fn send(&self, job: Job) {
        let Some(jobs) = &self.jobs else { return };
        if let Err(refused) = jobs.send(job) {
            refused
                .0
                .finish(Err(StoreError::Closed("the writer has ended".into())));
        }
    }

    fn failure(&self, action: &'static str, error: sled::Error) -> StoreError {
        failure(&self.path, action, error)
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the tables' writer thread panicked");
        }
    }
}

fn failure(path: &Path, action: &'static str, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(source) => StoreError::io(action, path, source),
        other => StoreError::damaged(path, other.to_string()),
    }
}

/// A snapshot of sled's own that was cut while it was written makes every later open fail; it is worth nothing.
fn remove_unfinished(path: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(path).map_err(|e| StoreError::io("list", path, e))? {
        let entry = entry.map_err(|e| StoreError::io("list", path, e))?;
        let name = entry.file_name();
        let is_unfinished = name
            .to_str()
            .is_some_and(|n| n.starts_with("snap.") && n.ends_with(".generating"));
        if is_unfinished {
            fs::remove_file(entry.path())
                .map_err(|e| StoreError::io("remove", &entry.path(), e))?;
        }
    }
    Ok(())
}

fn open_sled(path: &Path) -> Result<(sled::Db, Vec<sled::Tree>), StoreError> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let opened = catch_unwind(AssertUnwindSafe(|| -> sled::Result<_> {
        let db = config.open()?;
        let trees = Table::ALL
            .iter()
            .map(|table| db.open_tree(table.name()))
            .collect::<sled::Result<Vec<_>>>()?;
        Ok((db, trees))
    }));
    match opened {
        Ok(opened) => opened.map_err(|e| failure(path, "open", e)),
        Err(_) => Err(StoreError::damaged(path, "the database cannot be read")),
    }
}

/// Reads every row once; answers the number of the last durable batch.
fn verify(path: &Path, trees: &[sled::Tree], mark: &Mark) -> Result<u64, StoreError> {
    let checked = catch_unwind(AssertUnwindSafe(|| {
        for table in Table::ALL {
            for found in trees[table as usize].iter() {
                let (key, value) = found.map_err(|e| failure(path, "read a row of", e))?;
                row::decode(path, table, &key, &value)?;
            }
        }
        trees[Table::Meta as usize]
            .get(COMMITS)
            .map_err(|e| failure(path, "read a row of", e))
    }));
    let counted =
        checked.map_err(|_| StoreError::damaged(path, "the database cannot be read"))??;
    let commits = match counted {
        Some(value) => row::decode_count(path, &row::decode(path, Table::Meta, COMMITS, &value)?)?,
        None => 0,
    };
    let marked = mark.water().sequence;
    if commits < marked {
        return Err(StoreError::damaged(
            path,
            format!(
                "it ends at batch {commits}, and batch {marked} was durable once: its tail is missing"
            ),
        ));
    }
    Ok(commits)
}

fn make_durable(
    db: &sled::Db,
    file: &File,
    path: &Path,
    media: &dyn Media,
) -> Result<(), StoreError> {
    db.flush().map_err(|e| failure(path, "flush", e))?;
    media
        .sync_data(file)
        .map_err(|e| StoreError::io("sync", path, e))?;
    media
        .sync_directory(path)
        .map_err(|e| StoreError::io("sync the directory", path, e))
}

#[cfg(test)]
mod tests;
