//! The high-water mark: a small file beside the data that says how far it once was durable.
//!
//! Checksums see a changed record, not a missing one. Data that ends before its mark has lost its tail.
//! Two slots are written in turn, so that a torn write leaves the older one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::StoreError;
use super::log::Position;
use super::media::{Media, replace_file};

const MAGIC: &[u8; 8] = b"MAILLEHW";
const FORMAT: u32 = 1;
/// A slot is a sector of its own, so that a torn write cannot reach the other.
const SLOT_BYTES: usize = 512;
const USED_BYTES: usize = 8 + 4 + 8 + 1 + 24 + 4;
const NAME: &str = "mark";

/// What was durable when the mark was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub(super) struct Water {
    /// The number of the last durable write.
    pub(super) sequence: u64,
    /// The log's last entry at that moment; for people who look at a damaged log.
    pub(super) last: Option<Position>,
}

/// The open mark file.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    path: PathBuf,
    water: Water,
    next_slot: u64,
}

impl Mark {
    pub(super) fn create(directory: &Path, media: &dyn Media) -> Result<(), StoreError> {
        let mut bytes = encode(Water::default());
        bytes.extend(encode(Water::default()));
        replace_file(media, &directory.join(NAME), &bytes)
    }

    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            // Each write is durable when it returns; there are few of them.
            .custom_flags(rustix::fs::OFlags::DSYNC.bits() as i32)
            .open(&path)
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => {
                    StoreError::damaged(&path, "the high-water mark is missing")
                }
                _ => StoreError::io("open", &path, e),
            })?;
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|_| StoreError::damaged(&path, "the high-water mark is cut short"))?;
        let slots = [
            decode(&path, &bytes[..SLOT_BYTES])?,
            decode(&path, &bytes[SLOT_BYTES..])?,
        ];
        let newest = if slots[1] > slots[0] { 1 } else { 0 };
        let Some(water) = slots[newest] else {
            return Err(StoreError::damaged(
                &path,
                "no slot of the high-water mark has a right checksum",
            ));
        };
        Ok(Self {
            file,
            path,
            water,
            next_slot: 1 - newest as u64,
        })
    }

    pub(super) fn water(&self) -> Water {
        self.water
    }

    pub(super) fn write(&mut self, water: Water) -> Result<(), StoreError> {
        if water == self.water {
            return Ok(());
        }
        self.file
            .write_all_at(&encode(water), self.next_slot * SLOT_BYTES as u64)
            .map_err(|e| StoreError::io("write", &self.path, e))?;
        self.water = water;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

fn encode(water: Water) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOT_BYTES);
    out.put_slice(MAGIC);
    out.put_u32_le(FORMAT);
    out.put_u64_le(water.sequence);
    let last = water.last.unwrap_or_default();
    out.put_u8(u8::from(water.last.is_some()));
    out.put_u64_le(last.term);
    out.put_u64_le(last.leader);
    out.put_u64_le(last.index);
    let checksum = crc32c::crc32c(&out);
    out.put_u32_le(checksum);
    out.resize(SLOT_BYTES, 0);
    out
}

/// `None`: this slot is torn.
fn decode(path: &Path, bytes: &[u8]) -> Result<Option<Water>, StoreError> {
    let used = &bytes[..USED_BYTES];
    let (content, mut checksum) = used.split_at(USED_BYTES - 4);
    if &content[..8] != MAGIC || crc32c::crc32c(content) != checksum.get_u32_le() {
        return Ok(None);
    }
    let mut rest = &content[8..];
    let format = rest.get_u32_le();
    if format != FORMAT {
        return Err(StoreError::Format {
            path: path.to_path_buf(),
            found: format,
            known: FORMAT,
        });
    }
    let sequence = rest.get_u64_le();
    let present = rest.get_u8() != 0;
    let last = Position {
        term: rest.get_u64_le(),
        leader: rest.get_u64_le(),
        index: rest.get_u64_le(),
    };
    Ok(Some(Water {
        sequence,
        last: present.then_some(last),
    }))
}
