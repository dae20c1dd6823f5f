//! Reading and verifying a snapshot file.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;

use super::format::{self, Header, LARGEST_CHUNK, LEAD};
use super::writer::checksum;
use crate::store::StoreError;

/// A verified snapshot. The file stays open, so it can be read to its end even if a newer one replaces it meanwhile.
#[derive(Clone)]
pub struct SnapshotFile {
    path: PathBuf,
    file: Arc<File>,
    inspection: Arc<Inspection>,
}

/// What a snapshot file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// What it is of.
    pub header: Header,
    /// The number of chunks.
    pub chunks: u64,
    /// The file's size.
    pub bytes: u64,
    /// SHA-256 of everything before the digest itself.
    pub sha256: [u8; 32],
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Reads a whole file and says what it is; an error where anything in it is not as it was written.
pub fn inspect(path: &Path) -> Result<Inspection, StoreError> {
    let file = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
    Walk::new(path, &file)?.read_all(|_| Ok(()))
}

impl SnapshotFile {
    /// Opens a file and verifies all of it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
        let inspection = Walk::new(path, &file)?.read_all(|_| Ok(()))?;
        Ok(Self {
            path: path.to_path_buf(),
            file: Arc::new(file),
            inspection: Arc::new(inspection),
        })
    }

    /// What it is of.
    pub fn header(&self) -> &Header {
        &self.inspection.header
    }

    /// What was found in it.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the chunks in order, verifying them again.
    pub fn chunks(&self) -> Result<Vec<Bytes>, StoreError> {
        let mut chunks = Vec::new();
        Walk::new(&self.path, &self.file)?.read_all(|chunk| {
            chunks.push(chunk);
            Ok(())
        })?;
        Ok(chunks)
    }

    /// Up to `length` raw bytes of the file from `offset` on; empty at its end.
    pub fn read_raw(&self, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        let left = self.inspection.bytes.saturating_sub(offset);
        let mut bytes = vec![0; length.min(left as usize)];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|e| StoreError::io("read", &self.path, e))?;
        Ok(bytes.into())
    }
}

/// One pass over a file. Reads at offsets, so that a shared handle has no cursor to fight over.
struct Walk<'a> {
    path: &'a Path,
    input: BufReader<At<'a>>,
    digest: digest::Context,
    read: u64,
    header: Header,
}

struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl<'a> Walk<'a> {
    fn new(path: &'a Path, file: &'a File) -> Result<Self, StoreError> {
        let mut walk = Self {
            path,
            input: BufReader::new(At { file, offset: 0 }),
            digest: digest::Context::new(&digest::SHA256),
            read: 0,
            header: Header {
                cluster: String::new(),
                level: 0,
                position: None,
                membership: Bytes::new(),
            },
        };
        let mut lead = [0; LEAD];
        walk.take(&mut lead)?;
        let mut body = vec![0; format::body_length(path, &lead)?];
        walk.take(&mut body)?;
        let checksum = walk.take_u32()?;
        walk.header = format::decode(path, &body, checksum)?;
        Ok(walk)
    }

    fn read_all(
        mut self,
        mut each: impl FnMut(Bytes) -> Result<(), StoreError>,
    ) -> Result<Inspection, StoreError> {
        let mut chunks = 0;
        loop {
            let length = self.take_u32()? as usize;
            if length == 0 {
                break;
            }
            if length > LARGEST_CHUNK {
                return Err(self.damaged(format!("chunk {chunks} has an impossible length")));
            }
            let expected = self.take_u32()?;
            let mut data = vec![0; length];
            self.take(&mut data)?;
            if checksum(chunks, &data) != expected {
                return Err(self.damaged(format!("chunk {chunks} has a wrong checksum")));
            }
            chunks += 1;
            each(data.into())?;
        }
        self.trailer(chunks)
    }

    fn trailer(mut self, chunks: u64) -> Result<Inspection, StoreError> {
        let mut count = [0; 8];
        self.take(&mut count)?;
        if u64::from_le_bytes(count) != chunks {
            return Err(self.damaged("its number of chunks is wrong".into()));
        }
        let computed = self.digest.clone().finish();
        let mut sha256 = [0; 32];
        self.take(&mut sha256)?;
        if computed.as_ref() != sha256 {
            return Err(self.damaged("its SHA-256 is wrong".into()));
        }
        if self
            .input
            .read(&mut [0])
            .map_err(|e| StoreError::io("read", self.path, e))?
            != 0
        {
            return Err(self.damaged("bytes follow its end".into()));
        }
        Ok(Inspection {
            header: self.header,
            chunks,
            bytes: self.read,
            sha256,
        })
    }

    fn take_u32(&mut self) -> Result<u32, StoreError> {
        let mut bytes = [0; 4];
        self.take(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.input.read_exact(bytes).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => StoreError::damaged(self.path, "it is cut short"),
            _ => StoreError::io("read", self.path, e),
        })?;
        self.digest.update(bytes);
        self.read += bytes.len() as u64;
        Ok(())
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::damaged(self.path, what)
    }
}
