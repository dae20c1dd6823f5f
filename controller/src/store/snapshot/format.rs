//! The bytes of a snapshot file's header, format 1.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes};

use crate::store::StoreError;
use crate::store::log::Position;

/// The format that this version writes.
pub const FORMAT: u32 = 1;
/// The largest chunk: what a reader must be ready to hold.
pub const LARGEST_CHUNK: usize = 1 << 20;
pub(super) const MAGIC: &[u8; 8] = b"MAILLESN";
/// Magic, format and header length.
pub(super) const LEAD: usize = 16;
/// The largest header: a cluster id and a few members.
const LARGEST_HEADER: usize = 1 << 20;

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The cluster's id.
    pub cluster: String,
    /// The feature level that its body is written at.
    pub level: u32,
    /// The last entry that it covers.
    pub position: Option<Position>,
    /// Who was in the cluster: the caller's bytes.
    pub membership: Bytes,
}

pub(super) fn encode(header: &Header) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(&mut body, header.cluster.as_bytes());
    body.put_u32_le(header.level);
    let position = header.position.unwrap_or_default();
    body.put_u8(u8::from(header.position.is_some()));
    body.put_u64_le(position.term);
    body.put_u64_le(position.leader);
    body.put_u64_le(position.index);
    put_bytes(&mut body, &header.membership);
    let mut out = Vec::with_capacity(LEAD + body.len() + 4);
    out.put_slice(MAGIC);
    out.put_u32_le(FORMAT);
    out.put_u32_le(body.len() as u32);
    out.put_slice(&body);
    out.put_u32_le(crc32c::crc32c(&body));
    out
}

/// The length of the header's body, from the file's first bytes.
pub(super) fn body_length(path: &Path, lead: &[u8; LEAD]) -> Result<usize, StoreError> {
    if &lead[..8] != MAGIC {
        return Err(StoreError::damaged(
            path,
            "it is no snapshot of a Maille controller",
        ));
    }
    let mut rest = &lead[8..];
    let format = rest.get_u32_le();
    if format != FORMAT {
        return Err(StoreError::Format {
            path: path.to_path_buf(),
            found: format,
            known: FORMAT,
        });
    }
    match rest.get_u32_le() as usize {
        length if length <= LARGEST_HEADER => Ok(length),
        _ => Err(StoreError::damaged(
            path,
            "its header has an impossible length",
        )),
    }
}

/// The header from its body and the checksum behind it.
pub(super) fn decode(path: &Path, body: &[u8], checksum: u32) -> Result<Header, StoreError> {
    if crc32c::crc32c(body) != checksum {
        return Err(StoreError::damaged(path, "its header has a wrong checksum"));
    }
    decode_body(body).ok_or_else(|| StoreError::damaged(path, "its header is cut short"))
}

fn decode_body(mut body: &[u8]) -> Option<Header> {
    let cluster = String::from_utf8(take_bytes(&mut body)?.to_vec()).ok()?;
    let level = body.try_get_u32_le().ok()?;
    let present = body.try_get_u8().ok()? != 0;
    let position = Position {
        term: body.try_get_u64_le().ok()?,
        leader: body.try_get_u64_le().ok()?,
        index: body.try_get_u64_le().ok()?,
    };
    let membership = take_bytes(&mut body)?;
    Some(Header {
        cluster,
        level,
        position: present.then_some(position),
        membership,
    })
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

fn take_bytes(body: &mut &[u8]) -> Option<Bytes> {
    let length = body.try_get_u32_le().ok()? as usize;
    if length > body.len() {
        return None;
    }
    let (taken, rest) = body.split_at(length);
    *body = rest;
    Some(Bytes::copy_from_slice(taken))
}
