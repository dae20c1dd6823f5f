//! Writing a snapshot file, chunk by chunk, or receiving one whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use super::format::{self, Header, LARGEST_CHUNK};
use super::reader::SnapshotFile;
use crate::store::StoreError;
use crate::store::media::Media;

/// A snapshot being written.
pub struct Writer {
    file: BufWriter<File>,
    unpublished: Unpublished,
    digest: digest::Context,
    chunks: u64,
}

/// A snapshot file being received.
pub struct Receiver {
    file: BufWriter<File>,
    unpublished: Unpublished,
}

/// A file that nobody relies on yet; removed when it is dropped.
pub struct Unpublished {
    path: PathBuf,
    is_published: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.unpublished.path)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("path", &self.unpublished.path)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Unpublished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpublished")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn create(path: &Path, header: &Header) -> Result<Self, StoreError> {
        let file = File::create(path).map_err(|e| StoreError::io("create", path, e))?;
        let mut writer = Self {
            file: BufWriter::new(file),
            unpublished: Unpublished::new(path),
            digest: digest::Context::new(&digest::SHA256),
            chunks: 0,
        };
        writer.put(&format::encode(header))?;
        Ok(writer)
    }

    /// Writes data, cutting it into chunks of the largest size.
    pub fn write(&mut self, data: &[u8]) -> Result<(), StoreError> {
        for piece in data.chunks(LARGEST_CHUNK) {
            let mut head = [0; 8];
            head[..4].copy_from_slice(&(piece.len() as u32).to_le_bytes());
            head[4..].copy_from_slice(&checksum(self.chunks, piece).to_le_bytes());
            self.put(&head)?;
            self.put(piece)?;
            self.chunks += 1;
        }
        Ok(())
    }

    /// Writes the trailer.
    pub fn finish(mut self) -> Result<Unpublished, StoreError> {
        self.put(&0u32.to_le_bytes())?;
        let chunks = self.chunks;
        self.put(&chunks.to_le_bytes())?;
        let digest = self.digest.clone().finish();
        self.put(digest.as_ref())?;
        finish_file(self.file, &self.unpublished.path)?;
        Ok(self.unpublished)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.digest.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(|e| StoreError::io("write", &self.unpublished.path, e))
    }
}

impl Receiver {
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let file = File::create(path).map_err(|e| StoreError::io("create", path, e))?;
        Ok(Self {
            file: BufWriter::new(file),
            unpublished: Unpublished::new(path),
        })
    }

    /// Writes the file's next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(bytes)
            .map_err(|e| StoreError::io("write", &self.unpublished.path, e))
    }

    /// All bytes have come.
    pub fn finish(self) -> Result<Unpublished, StoreError> {
        finish_file(self.file, &self.unpublished.path)?;
        Ok(self.unpublished)
    }
}

impl Unpublished {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            is_published: false,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file has its final name.
    pub(super) fn published(mut self) {
        self.is_published = true;
    }

    /// Syncs the file and reads it back.
    pub(super) fn sync_and_verify(&self, media: &dyn Media) -> Result<SnapshotFile, StoreError> {
        let file = File::open(&self.path).map_err(|e| StoreError::io("open", &self.path, e))?;
        media
            .sync_data(&file)
            .map_err(|e| StoreError::io("sync", &self.path, e))?;
        SnapshotFile::open(&self.path)
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        if !self.is_published
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an unfinished snapshot; the next start does");
        }
    }
}

fn finish_file(mut file: BufWriter<File>, path: &Path) -> Result<(), StoreError> {
    file.flush().map_err(|e| StoreError::io("write", path, e))
}

pub(super) fn checksum(number: u64, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), data)
}
