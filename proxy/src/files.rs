//! Bytes that outlive the process: files that are whole or absent, versioned and checksummed, in a directory of our own.

use rustix::fs::{Mode, OFlags};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Magic, version, length of the body.
const HEADER: usize = 8 + 4 + 8;
/// CRC-32C over header and body.
const CHECKSUM: usize = 4;
/// A snapshot of 2,048 destinations with many endpoints each stays far below; more would be damage.
const LARGEST: u64 = 256 * 1024 * 1024;

/// What a kind of file begins with.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Tells kinds of files apart.
    pub magic: [u8; 8],
    /// The version that is written. Older ones that can still be read are the caller's business.
    pub version: u32,
}

/// A file cannot be used. All of them are harmless: the proxy gets what was in it from a controller.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk said no.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The bytes are not what was written.
    #[error("{path} is damaged ({what}); it is not used")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
    },
    /// Another version of the proxy wrote it.
    #[error("{path} has format {found}, this version reads {known}; it is not used")]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Others could read what is in the directory.
    #[error(
        "{path} belongs to user {owner} and this process is user {user}; name another dataDir or change its owner"
    )]
    Owner {
        /// Which directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io {
        doing,
        path,
        source,
    }
}

/// Makes a directory that only its owner can enter, or takes that right from others where it exists.
pub fn private_directory(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("make the directory", path))?;
    let found = fs::metadata(path).map_err(failed("look at", path))?;
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user {
        return Err(FileError::Owner {
            path: path.to_owned(),
            owner: found.uid(),
            user,
        });
    }
    if found.mode() & 0o077 != 0 {
        let private = Permissions::from_mode(0o700);
        fs::set_permissions(path, private).map_err(failed("close to others", path))?;
    }
    Ok(())
}

/// Writes the file whole: a crash leaves the old one or the new one.
pub fn write(path: &Path, format: Format, body: &[u8]) -> Result<(), FileError> {
    let mut bytes = Vec::with_capacity(HEADER + body.len() + CHECKSUM);
    bytes.extend_from_slice(&format.magic);
    bytes.extend_from_slice(&format.version.to_be_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(body);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());

    let fresh = path.with_extension("new");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&fresh).map_err(failed("make", &fresh))?;
    file.write_all(&bytes).map_err(failed("write", &fresh))?;
    file.sync_all().map_err(failed("sync", &fresh))?;
    fs::rename(&fresh, path).map_err(failed("put in place", path))?;
    sync_directory(path)
}

/// Removes the file; one that is not there is fine.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> Result<(), FileError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty());
    let opened = opened.map_err(|error| failed("open", directory)(error.into()))?;
    rustix::fs::fsync(opened).map_err(|error| failed("sync", directory)(error.into()))
}

/// Reads the body. `None`: there is no such file.
pub fn read(path: &Path, format: Format) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    body(path, format, bytes).map(Some)
}

fn body(path: &Path, format: Format, mut bytes: Vec<u8>) -> Result<Vec<u8>, FileError> {
    let damaged = |what| FileError::Damaged {
        path: path.to_owned(),
        what,
    };
    let split = bytes.len().checked_sub(CHECKSUM);
    let split = split.filter(|split| *split >= HEADER);
    let split = split.ok_or_else(|| damaged("it is cut"))?;
    if bytes[..8] != format.magic {
        return Err(damaged("it is another kind of file"));
    }
    if bytes[split..] != crc32c::crc32c(&bytes[..split]).to_be_bytes() {
        return Err(damaged("its checksum does not fit"));
    }
    let mut version = [0; 4];
    version.copy_from_slice(&bytes[8..12]);
    let found = u32::from_be_bytes(version);
    if found != format.version {
        return Err(FileError::Version {
            path: path.to_owned(),
            found,
            known: format.version,
        });
    }
    if bytes[12..HEADER] != ((split - HEADER) as u64).to_be_bytes() {
        return Err(damaged("its length does not fit"));
    }
    bytes.truncate(split);
    bytes.drain(..HEADER);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FORMAT: Format = Format {
        magic: *b"MAILLETS",
        version: 1,
    };

    #[test]
    fn a_file_reads_as_it_was_written_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("data");
        private_directory(&inner).unwrap();
        let path = inner.join("file");
        assert!(read(&path, FORMAT).unwrap().is_none());
        write(&path, FORMAT, b"first").unwrap();
        write(&path, FORMAT, b"second").unwrap();
        assert_eq!(read(&path, FORMAT).unwrap().unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&inner).unwrap().mode() & 0o777, 0o700);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn an_open_directory_is_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        private_directory(directory.path()).unwrap();
        let mode = fs::metadata(directory.path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn damage_is_found_at_every_byte_and_every_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, FORMAT, b"what matters").unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(read(&path, FORMAT).is_err(), "byte {at} changed");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path, FORMAT).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let next = Format {
            version: 2,
            ..FORMAT
        };
        write(&path, next, b"later").unwrap();
        let refused = read(&path, FORMAT).unwrap_err().to_string();
        assert!(refused.contains("has format 2, this version reads 1"));
    }
}
