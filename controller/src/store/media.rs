//! How bytes reach the disk for good: the one seam behind which a test can lie.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The calls that make data durable. The product uses [`Disk`]; a test stands in to fail a sync or to leave one out.
pub trait Media: Send + Sync + Debug + 'static {
    /// Returns once the file's data, and the size needed to read it, survive a power cut.
    fn sync_data(&self, file: &File) -> io::Result<()>;

    /// Returns once names in the directory survive a power cut.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The disk itself.
#[derive(Debug, Default, Clone, Copy)]
pub struct Disk;

impl Media for Disk {
    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// Writes a small file so that after a power cut it is the old one or the new one, never a part.
pub fn replace_file(media: &dyn Media, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = temporary_path(path);
    let mut file = File::create(&temporary).map_err(|e| StoreError::io("create", &temporary, e))?;
    file.write_all(bytes)
        .map_err(|e| StoreError::io("write", &temporary, e))?;
    media
        .sync_data(&file)
        .map_err(|e| StoreError::io("sync", &temporary, e))?;
    fs::rename(&temporary, path).map_err(|e| StoreError::io("rename to", path, e))?;
    let parent = parent_of(path);
    media
        .sync_directory(parent)
        .map_err(|e| StoreError::io("sync the directory", parent, e))
}

/// Makes a directory and its name durable. An existing one is fine.
pub fn make_directory(media: &dyn Media, path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|e| StoreError::io("create the directory", path, e))?;
    let parent = parent_of(path);
    media
        .sync_directory(parent)
        .map_err(|e| StoreError::io("sync the directory", parent, e))
}

/// Opens a file for reading and writing.
pub fn open_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|e| StoreError::io("open", path, e))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}
