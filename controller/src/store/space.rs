//! How much room the disk has, and when to refuse writes because of it.

use std::path::{Path, PathBuf};

use super::StoreError;

/// Room that is kept for what must still be written when writes are refused: votes, leaders' first entries, two snapshots being written.
pub const LEAST_RESERVE: u64 = 48 << 20;
/// On a large disk the reserve grows to this, and no further.
pub const MOST_RESERVE: u64 = 1 << 30;
/// The part of the disk that is kept free between the two.
const RESERVE_PART: u64 = 20;

/// Watches the file system that a directory stands on.
#[derive(Debug, Clone)]
pub struct Space {
    path: PathBuf,
    reserve: Option<u64>,
}

/// What there is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What an ordinary user may still write.
    pub free: u64,
    /// What is kept.
    pub reserve: u64,
}

impl Room {
    /// Whether new writes are taken.
    pub fn is_enough(&self) -> bool {
        self.free >= self.reserve
    }
}

impl Space {
    /// Watches the file system of `path`, keeping `reserve` bytes, or by default a twentieth of it within the limits above.
    pub fn new(path: &Path, reserve: Option<u64>) -> Self {
        Self {
            path: path.to_path_buf(),
            reserve,
        }
    }

    /// What there is now.
    pub fn room(&self) -> Result<Room, StoreError> {
        let found = rustix::fs::statvfs(&self.path)
            .map_err(|e| StoreError::io("read the free space of", &self.path, e.into()))?;
        let total = found.f_blocks.saturating_mul(found.f_frsize);
        Ok(Room {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            reserve: self.reserve.unwrap_or_else(|| default_reserve(total)),
        })
    }
}

fn default_reserve(total: u64) -> u64 {
    (total / RESERVE_PART).clamp(LEAST_RESERVE, MOST_RESERVE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_reserve_follows_the_disk_within_limits() {
        assert_eq!(default_reserve(100 << 20), LEAST_RESERVE);
        assert_eq!(default_reserve(10 << 30), (10 << 30) / RESERVE_PART);
        assert_eq!(default_reserve(1 << 40), MOST_RESERVE);
    }

    #[test]
    fn writes_are_refused_before_the_disk_is_full() {
        let home = tempfile::tempdir().unwrap();
        assert!(Space::new(home.path(), Some(1)).room().unwrap().is_enough());
        assert!(
            !Space::new(home.path(), Some(u64::MAX))
                .room()
                .unwrap()
                .is_enough()
        );
    }
}
