//! The record of every certificate issued: numbered and chained in `apply`, so that no controller can leave one out.

use bytes::Bytes;
use imbl::OrdMap;
use prost::Message;
use std::sync::Arc;

use super::codec::sha256;

/// One certificate. The fields and their numbers are those of `maille.v1.IssuanceRecord`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IssuanceRecord {
    /// From 1, without gaps; given by `apply`.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Whose it is.
    #[prost(string, tag = "2")]
    pub spiffe_id: String,
    /// Hex.
    #[prost(string, tag = "3")]
    pub serial: String,
    /// Unix seconds.
    #[prost(int64, tag = "4")]
    pub not_before: i64,
    /// Unix seconds.
    #[prost(int64, tag = "5")]
    pub not_after: i64,
    /// SHA-256 of the leaf's DER.
    #[prost(bytes = "bytes", tag = "6")]
    pub leaf_sha256: Bytes,
    /// SHA-256 of the leaf's public key.
    #[prost(bytes = "bytes", tag = "7")]
    pub key_sha256: Bytes,
    /// Who issued it.
    #[prost(string, tag = "8")]
    pub controller: String,
    /// `token <id>` or `renewal of <serial>`.
    #[prost(string, tag = "9")]
    pub reason: String,
    /// `<namespace>/<workload>`.
    #[prost(string, tag = "10")]
    pub workload: String,
    /// The hash of the record before; given by `apply`.
    #[prost(bytes = "bytes", tag = "11")]
    pub previous: Bytes,
    /// SHA-256(previous ‖ this record's encoding with `hash` unset); given by `apply`.
    #[prost(bytes = "bytes", tag = "12")]
    pub hash: Bytes,
}

impl IssuanceRecord {
    /// What `hash` must be.
    pub fn expected_hash(&self) -> Bytes {
        let unhashed = Self {
            hash: Bytes::new(),
            ..self.clone()
        };
        let mut bytes = self.previous.to_vec();
        bytes.extend_from_slice(&unhashed.encode_to_vec());
        Bytes::copy_from_slice(&sha256(&bytes))
    }
}

/// The part of the issuance log that is still of use: the head of the chain and the records from the first unexpired on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Issuance {
    pub(super) count: u64,
    pub(super) head: Bytes,
    pub(super) records: OrdMap<u64, Arc<IssuanceRecord>>,
}

impl Issuance {
    /// How many certificates were ever issued; the last record's number.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The last record's hash; empty before the first.
    pub const fn head(&self) -> &Bytes {
        &self.head
    }

    /// The kept records from this number on, in order.
    pub fn records_from(&self, number: u64) -> impl Iterator<Item = &Arc<IssuanceRecord>> {
        self.records.range(number..).map(|(_, record)| record)
    }

    /// Numbers and chains a record; gives back its number.
    pub(super) fn append(&mut self, mut record: IssuanceRecord) -> u64 {
        record.number = self.count + 1;
        record.previous = self.head.clone();
        record.hash = record.expected_hash();
        self.count = record.number;
        self.head = record.hash.clone();
        self.records.insert(record.number, Arc::new(record));
        self.count
    }

    /// Drops expired records from the front only, so that what is kept is one unbroken piece of the chain.
    pub(super) fn expire(&mut self, now_seconds: i64, at_most: usize) {
        for _ in 0..at_most {
            match self.records.get_min() {
                Some((number, record)) if record.not_after < now_seconds => {
                    let number = *number;
                    self.records.remove(&number);
                }
                _ => return,
            }
        }
    }
}
