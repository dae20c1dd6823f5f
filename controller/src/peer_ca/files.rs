//! Writing a directory of secrets as a whole: it is there with everything synced, or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A directory under a temporary name, removed again unless it is finished.
pub(super) struct NewDirectory {
    partial: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl NewDirectory {
    /// Begins `target`, whose parents are made where they are missing.
    pub(super) fn begin(target: &Path) -> io::Result<Self> {
        let mut partial = target.as_os_str().to_owned();
        partial.push(format!(".partial-{}", uuid::Uuid::new_v4().simple()));
        let partial = PathBuf::from(partial);
        if let Some(parent) = parent(target) {
            fs::create_dir_all(parent)?;
        }
        DirBuilder::new().mode(0o700).create(&partial)?;
        Ok(Self {
            partial,
            target: target.to_owned(),
            finished: false,
        })
    }

    pub(super) fn write(&self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(self.partial.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Gives the directory its name. Fails where something stands there that is not an empty directory.
    pub(super) fn finish(mut self) -> io::Result<()> {
        File::open(&self.partial)?.sync_all()?;
        fs::rename(&self.partial, &self.target)?;
        self.finished = true;
        match parent(&self.target) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if !self.finished {
            // The failure that brought us here is the one worth telling.
            fs::remove_dir_all(&self.partial).ok();
        }
    }
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
}

/// Whether the path is free: absent, or an empty directory.
pub(super) fn is_free(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(failure) => Err(failure),
    }
}
