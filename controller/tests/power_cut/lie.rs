//! The disk, and one that says of a file that it is synced when it is not.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use maille_controller::store::media::{Disk, Media};

/// Of what a sync is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Of nothing: the product.
    None,
    /// The segments of the log.
    Log,
    /// sled's file.
    Tables,
}

impl Lie {
    const ALL: [Self; 3] = [Self::None, Self::Log, Self::Tables];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Log => "log",
            Self::Tables => "tables",
        }
    }

    /// The lie of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lie| lie.name() == name)
    }

    fn is_about(self, path: &Path) -> bool {
        match self {
            Self::None => false,
            Self::Log => path.extension().is_some_and(|extension| extension == "log"),
            Self::Tables => path.ends_with("tables/db"),
        }
    }
}

impl Media for Lie {
    fn sync_data(&self, file: &File) -> io::Result<()> {
        match self.is_about(&path_of(file)?) {
            true => Ok(()),
            false => Disk.sync_data(file),
        }
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        Disk.sync_directory(path)
    }
}

fn path_of(file: &File) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
