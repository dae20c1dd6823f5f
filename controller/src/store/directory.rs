//! Who a data directory is: its own random id, the cluster and the node that it serves. And the lock on it.
//!
//! A node id alone cannot tell a wiped disk from the voter that it replaced; the directory's id can.

use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::FlockOperation;
use uuid::Uuid;

use super::StoreError;
use super::media::{self, Media};

const FORMAT: u32 = 1;
const IDENTITY: &str = "identity";
const LOCK: &str = "lock";

/// Drawn when a directory is made, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(Uuid);

impl DirectoryId {
    /// A new random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads the textual form.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }
}

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which member of which cluster a directory serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The cluster's id.
    pub cluster: String,
    /// The node's id in it.
    pub node: u64,
}

/// What a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its own id.
    pub directory: DirectoryId,
    /// Whom it serves; `None` before it has joined a cluster.
    pub membership: Option<Membership>,
}

/// A data directory, held by this process.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    identity: Mutex<Identity>,
    media: Arc<dyn Media>,
    /// The lock lives as long as the file is open.
    lock: Mutex<Option<File>>,
}

impl Directory {
    /// Takes the directory, making it where there is none.
    pub fn open(path: &Path, media: Arc<dyn Media>) -> Result<Self, StoreError> {
        media::make_directory(media.as_ref(), path)?;
        let lock = lock(path)?;
        let file = path.join(IDENTITY);
        let identity = match fs::read_to_string(&file) {
            Ok(text) => parse(&file, &text)?,
            Err(e) if e.kind() == ErrorKind::NotFound => create(path, media.as_ref())?,
            Err(e) => return Err(StoreError::io("read", &file, e)),
        };
        Ok(Self {
            path: path.to_path_buf(),
            identity: Mutex::new(identity),
            media,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How its bytes are made durable.
    pub fn media(&self) -> &Arc<dyn Media> {
        &self.media
    }

    /// What it is.
    pub fn identity(&self) -> Identity {
        self.identity.lock().expect("held for copies only").clone()
    }

    /// Its own id.
    pub fn id(&self) -> DirectoryId {
        self.identity().directory
    }

    /// Lets another process use it. Nothing may be written to it after this.
    pub fn release(&self) {
        drop(self.lock.lock().expect("held to take the lock only").take());
    }

    /// Writes down whom it serves, once and for good.
    pub fn join(&self, membership: Membership) -> Result<(), StoreError> {
        let mut identity = self.identity.lock().expect("held for copies only");
        if let Some(present) = &identity.membership {
            if *present == membership {
                return Ok(());
            }
            return Err(StoreError::Foreign {
                path: self.path.clone(),
                what: "cluster member",
                found: format!("node {} of cluster {}", present.node, present.cluster),
                expected: format!("node {} of cluster {}", membership.node, membership.cluster),
            });
        }
        let next = Identity {
            membership: Some(membership),
            ..identity.clone()
        };
        media::replace_file(
            self.media.as_ref(),
            &self.path.join(IDENTITY),
            render(&next).as_bytes(),
        )?;
        *identity = next;
        Ok(())
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file = path.join(LOCK);
    let lock = File::create(&file).map_err(|e| StoreError::io("create", &file, e))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse {
            path: path.to_path_buf(),
        }),
        Err(e) => Err(StoreError::io("lock", &file, e.into())),
    }
}

fn create(path: &Path, media: &dyn Media) -> Result<Identity, StoreError> {
    for name in ["log", "tables", "snapshots"] {
        if path.join(name).exists() {
            return Err(StoreError::damaged(
                &path.join(IDENTITY),
                "it is missing, and the directory holds data",
            ));
        }
    }
    let identity = Identity {
        directory: DirectoryId::random(),
        membership: None,
    };
    media::replace_file(media, &path.join(IDENTITY), render(&identity).as_bytes())?;
    Ok(identity)
}

fn render(identity: &Identity) -> String {
    let mut text = format!(
        "maille-directory {FORMAT}\ndirectory {}\n",
        identity.directory
    );
    if let Some(membership) = &identity.membership {
        text.push_str(&format!(
            "cluster {}\nnode {}\n",
            membership.cluster, membership.node
        ));
    }
    let checksum = crc32c::crc32c(text.as_bytes());
    text.push_str(&format!("crc32c {checksum:08x}\n"));
    text
}

fn parse(path: &Path, text: &str) -> Result<Identity, StoreError> {
    let damaged = |what: &str| StoreError::damaged(path, what);
    let (content, checksum) = text
        .rsplit_once("crc32c ")
        .ok_or_else(|| damaged("it has no checksum"))?;
    if u32::from_str_radix(checksum.trim(), 16) != Ok(crc32c::crc32c(content.as_bytes())) {
        return Err(damaged("it has a wrong checksum"));
    }
    let mut lines = content
        .lines()
        .map(|line| line.split_once(' ').unwrap_or((line, "")));
    let (_, format) = lines.next().ok_or_else(|| damaged("it is empty"))?;
    let format: u32 = format
        .parse()
        .map_err(|_| damaged("its format is no number"))?;
    if format != FORMAT {
        return Err(StoreError::Format {
            path: path.to_path_buf(),
            found: format,
            known: FORMAT,
        });
    }
    let (mut directory, mut cluster, mut node) = (None, None, None);
    for (key, value) in lines {
        match key {
            "directory" => directory = DirectoryId::parse(value),
            "cluster" => cluster = Some(value.to_owned()),
            "node" => node = value.parse().ok(),
            _ => return Err(damaged("it has an unknown line")),
        }
    }
    let membership = match (cluster, node) {
        (Some(cluster), Some(node)) => Some(Membership { cluster, node }),
        (None, None) => None,
        _ => {
            return Err(damaged(
                "it names a cluster without a node, or a node without a cluster",
            ));
        }
    };
    Ok(Identity {
        directory: directory.ok_or_else(|| damaged("it has no directory id"))?,
        membership,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::media::Disk;

    fn membership(node: u64) -> Membership {
        Membership {
            cluster: "c".into(),
            node,
        }
    }

    #[test]
    fn a_directory_keeps_its_identity_and_joins_once() {
        let home = tempfile::tempdir().unwrap();
        let first = Directory::open(home.path(), Arc::new(Disk)).unwrap();
        let id = first.id();
        first.join(membership(3)).unwrap();
        assert!(matches!(
            first.join(membership(4)),
            Err(StoreError::Foreign { .. })
        ));
        drop(first);
        let again = Directory::open(home.path(), Arc::new(Disk)).unwrap();
        assert_eq!(
            again.identity(),
            Identity {
                directory: id,
                membership: Some(membership(3))
            }
        );
    }

    #[test]
    fn a_directory_has_one_user() {
        let home = tempfile::tempdir().unwrap();
        let _first = Directory::open(home.path(), Arc::new(Disk)).unwrap();
        let second = Directory::open(home.path(), Arc::new(Disk)).unwrap_err();
        assert!(matches!(second, StoreError::InUse { .. }), "{second}");
    }

    #[test]
    fn a_changed_or_missing_identity_is_refused() {
        let home = tempfile::tempdir().unwrap();
        drop(Directory::open(home.path(), Arc::new(Disk)).unwrap());
        let file = home.path().join(IDENTITY);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen("directory ", "directory 0", 2)).unwrap();
        assert!(matches!(
            Directory::open(home.path(), Arc::new(Disk)),
            Err(StoreError::Damaged { .. })
        ));
        fs::remove_file(&file).unwrap();
        fs::create_dir(home.path().join("log")).unwrap();
        assert!(matches!(
            Directory::open(home.path(), Arc::new(Disk)),
            Err(StoreError::Damaged { .. })
        ));
    }

    #[test]
    fn the_identity_of_format_1_keeps_its_text() {
        let identity = Identity {
            directory: DirectoryId::from_bytes(*b"0123456789abcdef"),
            membership: Some(membership(7)),
        };
        let text = render(&identity);
        assert_eq!(text, include_str!("golden/identity-1.txt"));
        assert_eq!(parse(Path::new("x"), &text).unwrap(), identity);
    }
}
