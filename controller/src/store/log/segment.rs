//! Segment files: a header, then records, then zeros up to a fixed size.
//!
//! The zeros are written, not only reserved, before the segment is used: a sync that needs no change of the file's metadata takes a
//! fraction of the time of one that does, and a full disk shows here and not in the middle of a record.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::record::{self, Parsed};
use super::{Entry, LogOptions, Position, Vote};
use crate::store::StoreError;
use crate::store::directory::DirectoryId;
use crate::store::media::{self, Media};

const MAGIC: &[u8; 8] = b"MAILLELG";
const FORMAT: u32 = 1;
/// The header has a page of its own, so that no write of a record touches it.
pub(super) const HEADER_BYTES: u64 = 4096;
const HEADER_USED: usize = 8 + 4 + 8 + 16 + 8 + 25 + 25 + 18 + 4;
const SPARE: &str = "spare";
/// Zeros are written in pieces of this size.
const ZERO_PIECE: usize = 1 << 20;

/// What was true when a segment was begun; makes each prefix of segments removable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) directory: DirectoryId,
    /// The sequence number of its first record.
    pub(super) first_sequence: u64,
    pub(super) purged: Option<Position>,
    pub(super) last: Option<Position>,
    pub(super) vote: Option<Vote>,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
}

pub(super) fn file_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.log"))
}

/// The numbers of the segments in a directory, in order.
pub(super) fn list(directory: &Path) -> Result<Vec<u64>, StoreError> {
    let entries = fs::read_dir(directory).map_err(|e| StoreError::io("list", directory, e))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::io("list", directory, e))?;
        let name = entry.file_name();
        let Some(stem) = name.to_str().and_then(|n| n.strip_suffix(".log")) else {
            continue;
        };
        let number = u64::from_str_radix(stem, 16).map_err(|_| {
            StoreError::damaged(&entry.path(), "its name is not a segment's number")
        })?;
        numbers.push(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Bytes of all files in a directory; files that vanish meanwhile do not count.
pub(super) fn disk_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|m| m.len())
        .sum()
}

pub(super) fn create_first(options: &LogOptions) -> Result<(), StoreError> {
    prepare_spare(&options.path, options.segment_bytes, options.media.as_ref())?;
    let header = Header {
        number: 1,
        directory: options.directory,
        first_sequence: 1,
        purged: None,
        last: None,
        vote: None,
    };
    begin(&options.path, &header, options.media.as_ref()).map(drop)
}

/// Makes the spare file: all zeros, synced. Does nothing where there is one of the right size.
pub(super) fn prepare_spare(
    directory: &Path,
    size: u64,
    media: &dyn Media,
) -> Result<(), StoreError> {
    let path = directory.join(SPARE);
    if fs::metadata(&path).is_ok_and(|m| m.len() == size) {
        return Ok(());
    }
    let temporary = directory.join("spare.tmp");
    let written = write_zeros(&temporary, size, media);
    if written.is_err() {
        // Give the room back: it is what is short.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    fs::rename(&temporary, &path).map_err(|e| StoreError::io("rename to", &path, e))
}

fn write_zeros(path: &Path, size: u64, media: &dyn Media) -> Result<(), StoreError> {
    let mut file = File::create(path).map_err(|e| StoreError::io("create", path, e))?;
    let zeros = vec![0; ZERO_PIECE.min(size as usize)];
    let mut left = size;
    while left > 0 {
        let piece = left.min(zeros.len() as u64);
        file.write_all(&zeros[..piece as usize])
            .map_err(|e| StoreError::io("write", path, e))?;
        left -= piece;
    }
    media
        .sync_data(&file)
        .map_err(|e| StoreError::io("sync", path, e))
}

/// Turns the spare file into the segment of `header`, durably.
pub(super) fn begin(
    directory: &Path,
    header: &Header,
    media: &dyn Media,
) -> Result<File, StoreError> {
    let spare = directory.join(SPARE);
    let path = file_path(directory, header.number);
    let file = media::open_file(&spare)?;
    file.write_all_at(&encode_header(header), 0)
        .map_err(|e| StoreError::io("write", &spare, e))?;
    media
        .sync_data(&file)
        .map_err(|e| StoreError::io("sync", &spare, e))?;
    fs::rename(&spare, &path).map_err(|e| StoreError::io("rename to", &path, e))?;
    media
        .sync_directory(directory)
        .map_err(|e| StoreError::io("sync the directory", directory, e))?;
    Ok(file)
}

/// Removes segments from the oldest on, each durably before the next, so that a cut never leaves a hole.
pub(super) fn remove(
    directory: &Path,
    numbers: &[u64],
    media: &dyn Media,
) -> Result<(), StoreError> {
    for number in numbers {
        let path = file_path(directory, *number);
        fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, e))?;
        media
            .sync_directory(directory)
            .map_err(|e| StoreError::io("sync the directory", directory, e))?;
    }
    Ok(())
}

/// Reads a segment whole and checks its header.
pub(super) fn read(options: &LogOptions, number: u64) -> Result<(Header, Vec<u8>), StoreError> {
    let path = file_path(&options.path, number);
    let bytes = fs::read(&path).map_err(|e| StoreError::io("read", &path, e))?;
    let header = decode_header(&path, &bytes)?;
    if header.directory != options.directory {
        return Err(StoreError::Foreign {
            path,
            what: "data directory",
            found: header.directory.to_string(),
            expected: options.directory.to_string(),
        });
    }
    if header.number != number {
        return Err(StoreError::damaged(
            &path,
            format!("its header says segment {}", header.number),
        ));
    }
    Ok((header, bytes))
}

/// Reads one entry's record again and checks that it is the one meant.
pub(super) fn read_entry(
    directory: &Path,
    place: Place,
    position: Position,
) -> Result<Entry, StoreError> {
    let path = file_path(directory, place.segment);
    let file = OpenOptions::new()
        .read(true)
        .open(&path)
        .map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                StoreError::Refused(format!("entry {} was purged meanwhile", position.index))
            }
            _ => StoreError::io("open", &path, e),
        })?;
    let mut bytes = vec![0; place.length as usize];
    file.read_exact_at(&mut bytes, place.offset)
        .map_err(|e| StoreError::io("read", &path, e))?;
    match record::parse(&bytes) {
        Parsed::Record(found, _) => match found.change {
            record::Change::Entry(entry) if entry.position == position => Ok(entry),
            _ => Err(StoreError::damaged(
                &path,
                format!("entry {} is not at byte {}", position.index, place.offset),
            )),
        },
        Parsed::End | Parsed::Invalid(_) => Err(StoreError::damaged(
            &path,
            format!(
                "entry {} at byte {} does not verify",
                position.index, place.offset
            ),
        )),
    }
}

fn encode_header(header: &Header) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES as usize);
    out.put_slice(MAGIC);
    out.put_u32_le(FORMAT);
    out.put_u64_le(header.number);
    out.put_slice(header.directory.as_bytes());
    out.put_u64_le(header.first_sequence);
    put_position(&mut out, header.purged);
    put_position(&mut out, header.last);
    let vote = header.vote.unwrap_or(Vote {
        term: 0,
        node: 0,
        committed: false,
    });
    out.put_u8(u8::from(header.vote.is_some()));
    out.put_u64_le(vote.term);
    out.put_u64_le(vote.node);
    out.put_u8(u8::from(vote.committed));
    let checksum = crc32c::crc32c(&out);
    out.put_u32_le(checksum);
    out
}

fn decode_header(path: &Path, bytes: &[u8]) -> Result<Header, StoreError> {
    if (bytes.len() as u64) < HEADER_BYTES || &bytes[..8] != MAGIC {
        return Err(StoreError::damaged(path, "it has no segment header"));
    }
    let (content, mut checksum) = bytes[..HEADER_USED].split_at(HEADER_USED - 4);
    let mut rest = &content[8..];
    let format = rest.get_u32_le();
    if crc32c::crc32c(content) != checksum.get_u32_le() {
        return Err(StoreError::damaged(path, "its header has a wrong checksum"));
    }
    if format != FORMAT {
        return Err(StoreError::Format {
            path: path.to_path_buf(),
            found: format,
            known: FORMAT,
        });
    }
    let number = rest.get_u64_le();
    let mut directory = [0; 16];
    rest.copy_to_slice(&mut directory);
    let first_sequence = rest.get_u64_le();
    let purged = get_position(&mut rest);
    let last = get_position(&mut rest);
    let present = rest.get_u8() != 0;
    let vote = Vote {
        term: rest.get_u64_le(),
        node: rest.get_u64_le(),
        committed: rest.get_u8() != 0,
    };
    Ok(Header {
        number,
        directory: DirectoryId::from_bytes(directory),
        first_sequence,
        purged,
        last,
        vote: present.then_some(vote),
    })
}

fn put_position(out: &mut Vec<u8>, position: Option<Position>) {
    let value = position.unwrap_or_default();
    out.put_u8(u8::from(position.is_some()));
    out.put_u64_le(value.term);
    out.put_u64_le(value.leader);
    out.put_u64_le(value.index);
}

fn get_position(bytes: &mut &[u8]) -> Option<Position> {
    let present = bytes.get_u8() != 0;
    let position = Position {
        term: bytes.get_u64_le(),
        leader: bytes.get_u64_le(),
        index: bytes.get_u64_le(),
    };
    present.then_some(position)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_header_of_format_1_keeps_its_bytes() {
        let position = |index| {
            Some(Position {
                term: 4,
                leader: 2,
                index,
            })
        };
        let header = Header {
            number: 3,
            directory: DirectoryId::from_bytes(*b"0123456789abcdef"),
            first_sequence: 77,
            purged: position(10),
            last: position(70),
            vote: Some(Vote {
                term: 4,
                node: 2,
                committed: true,
            }),
        };
        let mut bytes = encode_header(&header);
        assert_eq!(bytes.len(), HEADER_USED);
        let golden = include_str!("golden/segment-1.hex");
        assert_eq!(
            hex::encode(&bytes),
            golden.split_whitespace().collect::<String>()
        );
        bytes.resize(HEADER_BYTES as usize, 0);
        assert_eq!(decode_header(Path::new("x"), &bytes).unwrap(), header);
    }
}
