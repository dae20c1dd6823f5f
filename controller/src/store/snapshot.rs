//! Snapshots as files: written beside the old one, synced, renamed, read back, and only then relied upon.
//!
//! ```text
//! "MAILLESN" · u32 format · u32 header length · header · u32 crc32c of the header
//! chunks: u32 length (never 0) · u32 crc32c of chunk number and data · data
//! u32 0 · u64 number of chunks · 32 bytes SHA-256 of all before
//! ```
//!
//! Equal content gives equal bytes: no clock and no random value is written.

mod format;
mod reader;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::StoreError;
use super::log::Position;
use super::media::{self, Media};

pub use format::{FORMAT, Header, LARGEST_CHUNK};
pub use reader::{Inspection, SnapshotFile, inspect};
pub use writer::{Receiver, Unpublished, Writer};

/// Snapshots kept: the newest and the one before it, in case the newest cannot be read.
const KEPT: usize = 2;

/// The snapshots of a data directory.
#[derive(Debug, Clone)]
pub struct Snapshots {
    path: PathBuf,
    media: Arc<dyn Media>,
    current: Arc<Mutex<Option<SnapshotFile>>>,
}

/// What became of a written file.
enum Offered {
    Published(SnapshotFile),
    /// This one, already there, is newer.
    Newer(SnapshotFile),
}

impl Snapshots {
    /// Opens the directory, verifies the snapshots from the newest on, and takes the first that is whole.
    pub fn open(path: &Path, media: Arc<dyn Media>) -> Result<Self, StoreError> {
        media::make_directory(media.as_ref(), path)?;
        remove_unfinished(path)?;
        let mut current = None;
        let mut damage = None;
        for name in list(path)?.into_iter().rev() {
            match SnapshotFile::open(&path.join(&name)) {
                Ok(found) => {
                    current = Some(found);
                    break;
                }
                Err(error @ StoreError::Format { .. }) => return Err(error),
                Err(error) => {
                    tracing::error!(error = error.full_text(), "a snapshot is damaged");
                    damage = Some(error);
                }
            }
        }
        if current.is_none()
            && let Some(error) = damage
        {
            return Err(error);
        }
        Ok(Self {
            path: path.to_path_buf(),
            media,
            current: Arc::new(Mutex::new(current)),
        })
    }

    /// The newest verified snapshot.
    pub fn current(&self) -> Option<SnapshotFile> {
        self.current.lock().expect("held for copies only").clone()
    }

    /// Begins a snapshot of this process's own state.
    pub fn create(&self, header: &Header) -> Result<Writer, StoreError> {
        Writer::create(&self.temporary(), header)
    }

    /// Begins to receive a snapshot file from elsewhere.
    pub fn receive(&self) -> Result<Receiver, StoreError> {
        Receiver::create(&self.temporary())
    }

    /// Publishes a written file: syncs, renames, reads back. An older one than the current is refused.
    pub fn publish(&self, unpublished: Unpublished) -> Result<SnapshotFile, StoreError> {
        match self.offer(unpublished)? {
            Offered::Published(file) => Ok(file),
            Offered::Newer(_) => Err(StoreError::Refused("a newer snapshot is present".into())),
        }
    }

    /// Publishes a written file, unless a newer one has come meanwhile; answers the newest.
    pub fn publish_unless_newer(
        &self,
        unpublished: Unpublished,
    ) -> Result<SnapshotFile, StoreError> {
        match self.offer(unpublished)? {
            Offered::Published(file) | Offered::Newer(file) => Ok(file),
        }
    }

    fn offer(&self, unpublished: Unpublished) -> Result<Offered, StoreError> {
        let found = unpublished.sync_and_verify(self.media.as_ref())?;
        let mut current = self.current.lock().expect("held for copies only");
        if let Some(present) = current.as_ref()
            && present.header().position > found.header().position
        {
            return Ok(Offered::Newer(present.clone()));
        }
        let path = self.path.join(file_name(found.header().position));
        fs::rename(unpublished.path(), &path).map_err(|e| StoreError::io("rename to", &path, e))?;
        unpublished.published();
        self.media
            .sync_directory(&self.path)
            .map_err(|e| StoreError::io("sync the directory", &self.path, e))?;
        let published = SnapshotFile::open(&path)?;
        *current = Some(published.clone());
        self.prune()?;
        Ok(Offered::Published(published))
    }

    /// Takes a snapshot over from another directory; one of this directory is as it is.
    pub fn adopt(&self, file: SnapshotFile) -> Result<SnapshotFile, StoreError> {
        if file.path().parent() == Some(&self.path) {
            return Ok(file);
        }
        let mut receiver = self.receive()?;
        let mut offset = 0;
        loop {
            let piece = file.read_raw(offset, LARGEST_CHUNK)?;
            if piece.is_empty() {
                return self.publish(receiver.finish()?);
            }
            receiver.write(&piece)?;
            offset += piece.len() as u64;
        }
    }

    fn prune(&self) -> Result<(), StoreError> {
        let names = list(&self.path)?;
        let surplus = names.len().saturating_sub(KEPT);
        for name in &names[..surplus] {
            let path = self.path.join(name);
            fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// A name of its own for each attempt: building and receiving may overlap.
    fn temporary(&self) -> PathBuf {
        self.path.join(format!("{}.tmp", uuid::Uuid::new_v4()))
    }
}

/// Names sort by index, then term, then leader.
fn file_name(position: Option<Position>) -> String {
    let position = position.unwrap_or_default();
    format!(
        "{:016x}-{:016x}-{:016x}.snapshot",
        position.index, position.term, position.leader
    )
}

fn list(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| StoreError::io("list", path, e))? {
        let entry = entry.map_err(|e| StoreError::io("list", path, e))?;
        if let Ok(name) = entry.file_name().into_string()
            && name.ends_with(".snapshot")
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn remove_unfinished(path: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(path).map_err(|e| StoreError::io("list", path, e))? {
        let entry = entry.map_err(|e| StoreError::io("list", path, e))?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "tmp")
        {
            fs::remove_file(entry.path())
                .map_err(|e| StoreError::io("remove", &entry.path(), e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
