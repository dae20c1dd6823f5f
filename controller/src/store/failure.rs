//! What can go wrong with the disk, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the store refused or failed. Clonable, because one failed sync answers every writer that waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// What is on the disk is not what was acknowledged. Never repaired in place: a voter that lost a part of its log could elect a leader that
    /// lacks a committed entry.
    #[error(
        "{} is damaged: {what}. Nothing was changed. Move the data directory aside, remove this member from the cluster \
         (`maille members remove`) and join it again with a fresh directory and a controller token; if no other member is left, \
         restore a snapshot (`maille snapshot restore`)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        what: String,
    },
    /// The file was written by a newer version.
    #[error("{} has format {found}, this version reads up to {known}: start the version that wrote it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest that this version reads.
        known: u32,
    },
    /// A file or a directory that belongs to another cluster, node or directory.
    #[error("{} belongs to another {what}: it says {found}, expected {expected}. Use the directory that belongs to this controller, or an empty one", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Which identity differs.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// Another process holds the directory.
    #[error("{} is used by another process: stop it, or give this controller a data directory of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// An earlier write or sync failed. Nothing is written after that, because the kernel may have dropped what it could not write.
    #[error("the store is closed after a failure: {0}")]
    Closed(String),
    /// The caller asked for what cannot be stored.
    #[error("{0}")]
    Refused(String),
}

impl StoreError {
    /// Wraps what the system said about `path`.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source: Arc::new(source),
        }
    }

    /// A file whose content is not what was written.
    pub fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            what: what.into(),
        }
    }

    /// Whether the system said that there is no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    /// The text with its causes, for logs and for errors that cross to another vocabulary.
    pub fn full_text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        let kind = if error.is_full() {
            io::ErrorKind::StorageFull
        } else {
            io::ErrorKind::Other
        };
        io::Error::new(kind, error)
    }
}
