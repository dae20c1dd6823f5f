//! Versioned bytes: every command, answer and snapshot row carries the version of its format.

use bytes::Bytes;
use prost::Message;

/// Bytes that this binary cannot read. A log entry or a snapshot that gives it must stop the process: to skip it would
/// split the cluster.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("{what} is cut short: {have} bytes of {need}")]
    Short {
        /// What was read.
        what: &'static str,
        /// Bytes that are there.
        have: usize,
        /// Bytes that are needed.
        need: usize,
    },
    /// A number that this binary does not know.
    #[error(
        "{what} {number} is unknown to this version of maille-controller; install one at least as new as the cluster's newest"
    )]
    Unknown {
        /// What was read.
        what: &'static str,
        /// The number.
        number: u64,
    },
    /// Bytes that are not what they should be.
    #[error("{what} cannot be read")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A snapshot whose parts do not fit together.
    #[error("the snapshot is inconsistent: {0}")]
    Inconsistent(String),
    /// The source of the bytes failed.
    #[error("the bytes cannot be read")]
    Read(#[from] std::io::Error),
}

impl DecodeError {
    pub(super) fn malformed(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Malformed {
            what,
            source: source.into(),
        }
    }
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest
        .as_ref()
        .try_into()
        .expect("SHA-256 is 32 bytes long by definition")
}

/// Takes a big-endian number off the front.
pub(super) fn take_u16(bytes: &mut Bytes, what: &'static str) -> Result<u16, DecodeError> {
    let head = take(bytes, 2, what)?;
    Ok(u16::from_be_bytes([head[0], head[1]]))
}

/// Takes a big-endian number off the front.
pub(super) fn take_u32(bytes: &mut Bytes, what: &'static str) -> Result<u32, DecodeError> {
    let head = take(bytes, 4, what)?;
    Ok(u32::from_be_bytes([head[0], head[1], head[2], head[3]]))
}

/// Takes so many bytes off the front.
pub(super) fn take(
    bytes: &mut Bytes,
    count: usize,
    what: &'static str,
) -> Result<Bytes, DecodeError> {
    if bytes.len() < count {
        return Err(DecodeError::Short {
            what,
            have: bytes.len(),
            need: count,
        });
    }
    Ok(bytes.split_to(count))
}

/// Refuses versions other than this one.
pub(super) fn expect_version(
    version: u16,
    known: u16,
    what: &'static str,
) -> Result<(), DecodeError> {
    if version == known {
        Ok(())
    } else {
        Err(DecodeError::Unknown {
            what,
            number: version.into(),
        })
    }
}

/// Reads a message.
pub(super) fn message<M: Message + Default>(
    bytes: Bytes,
    what: &'static str,
) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|source| DecodeError::malformed(what, source))
}

/// Refuses a number that the enumeration does not have.
pub(super) fn known<E: TryFrom<i32>>(number: i32, what: &'static str) -> Result<(), DecodeError> {
    match E::try_from(number) {
        Ok(_) => Ok(()),
        Err(_) => Err(DecodeError::Unknown {
            what,
            number: u64::from(number.unsigned_abs()),
        }),
    }
}
