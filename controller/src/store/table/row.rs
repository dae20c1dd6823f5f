//! How a value stands in a table, format 1: `u8 format · u32 crc32c of table, key and value · value`.

use std::path::Path;

use bytes::{BufMut, Bytes};

use super::Table;
use crate::store::StoreError;

const FORMAT: u8 = 1;
const HEAD: usize = 5;

pub(super) fn encode(table: Table, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + value.len());
    out.put_u8(FORMAT);
    out.put_u32_le(checksum(table, key, value));
    out.put_slice(value);
    out
}

pub(super) fn decode(
    path: &Path,
    table: Table,
    key: &[u8],
    bytes: &[u8],
) -> Result<Bytes, StoreError> {
    let damaged = |what: &str| {
        StoreError::damaged(
            path,
            format!("row {} of table {} {what}", hex::encode(key), table.name()),
        )
    };
    if bytes.len() < HEAD {
        return Err(damaged("is cut short"));
    }
    if bytes[0] != FORMAT {
        return Err(StoreError::Format {
            path: path.to_path_buf(),
            found: bytes[0].into(),
            known: FORMAT.into(),
        });
    }
    let (head, value) = bytes.split_at(HEAD);
    if head[1..] != checksum(table, key, value).to_le_bytes() {
        return Err(damaged("has a wrong checksum"));
    }
    Ok(Bytes::copy_from_slice(value))
}

pub(super) fn decode_count(path: &Path, value: &[u8]) -> Result<u64, StoreError> {
    let bytes = value
        .try_into()
        .map_err(|_| StoreError::damaged(path, "its batch number is cut short"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn checksum(table: Table, key: &[u8], value: &[u8]) -> u32 {
    let sum = crc32c::crc32c(table.name().as_bytes());
    let sum = crc32c::crc32c_append(sum, &(key.len() as u64).to_le_bytes());
    let sum = crc32c::crc32c_append(sum, key);
    crc32c::crc32c_append(sum, value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_row_of_format_1_keeps_its_bytes() {
        let bytes = encode(Table::Issuance, b"key", b"value");
        assert_eq!(hex::encode(&bytes), include_str!("golden/row-1.hex").trim());
        assert_eq!(
            decode(Path::new("x"), Table::Issuance, b"key", &bytes).unwrap(),
            "value"
        );
    }

    #[test]
    fn a_row_of_another_key_or_table_is_damage() {
        let bytes = encode(Table::Issuance, b"key", b"value");
        assert!(decode(Path::new("x"), Table::Issuance, b"kez", &bytes).is_err());
        assert!(decode(Path::new("x"), Table::Tokens, b"key", &bytes).is_err());
    }
}
