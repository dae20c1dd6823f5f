//! The issuance log's hash chain: how a record is hashed, and how a reader finds out that one was changed or left out.

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message;

use crate::maille::v1::IssuanceRecord;

/// The chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A record is not the one after the record before it.
    #[error("record {found} follows record {before}; what stood between is missing")]
    Gap {
        /// The last good record.
        before: u64,
        /// The one that came.
        found: u64,
    },
    /// A record was changed.
    #[error("record {number} ({spiffe_id}) was changed: its hash does not match its content")]
    Changed {
        /// Which.
        number: u64,
        /// Whose certificate it names.
        spiffe_id: String,
    },
    /// A record names another predecessor.
    #[error(
        "record {number} does not continue record {before}: the log was written anew from there"
    )]
    Forked {
        /// Which.
        number: u64,
        /// The one before.
        before: u64,
    },
    /// The records end before the log does, or the log's head is another.
    #[error(
        "the log says that it ends with record {issued}, but the chain read so far ends with record {last} and another hash"
    )]
    Head {
        /// What the log says.
        issued: u64,
        /// What was read.
        last: u64,
    },
}

/// `SHA-256(previous hash ‖ the record's encoding with `hash` unset)`.
pub fn expected_hash(record: &IssuanceRecord) -> [u8; 32] {
    let unhashed = IssuanceRecord {
        hash: Vec::new().into(),
        ..record.clone()
    };
    let mut context = Context::new(&SHA256);
    context.update(&record.previous);
    context.update(&unhashed.encode_to_vec());
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

/// Follows a chain record by record.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    first: u64,
    last: u64,
    hash: Vec<u8>,
}

impl Chain {
    /// Before the first record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record. The first may have any number: what expired before it is not kept.
    pub fn check(&mut self, record: &IssuanceRecord) -> Result<(), ChainError> {
        if self.last != 0 && record.number != self.last + 1 {
            return Err(ChainError::Gap {
                before: self.last,
                found: record.number,
            });
        }
        let continues = if self.last == 0 {
            record.number > 0 && (record.number == 1) == record.previous.is_empty()
        } else {
            self.hash == record.previous[..]
        };
        if !continues {
            return Err(ChainError::Forked {
                number: record.number,
                before: record.number.saturating_sub(1),
            });
        }
        let hash = expected_hash(record);
        if hash != record.hash[..] {
            return Err(ChainError::Changed {
                number: record.number,
                spiffe_id: record.spiffe_id.clone(),
            });
        }
        if self.last == 0 {
            self.first = record.number;
        }
        self.last = record.number;
        self.hash = hash.to_vec();
        Ok(())
    }

    /// Compares the end with what the log says of itself: how many were issued, and the head's hash. A log whose records
    /// have all expired has nothing to compare.
    pub fn finish(&self, issued: u64, head: &[u8]) -> Result<(), ChainError> {
        if self.last == 0 || (self.last == issued && self.hash == head) {
            return Ok(());
        }
        Err(ChainError::Head {
            issued,
            last: self.last,
        })
    }

    /// The numbers of the first and the last record read; none before the first.
    pub fn range(&self) -> Option<(u64, u64)> {
        (self.last != 0).then_some((self.first, self.last))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn log(count: u64) -> Vec<IssuanceRecord> {
        let mut previous = Vec::new();
        (1..=count)
            .map(|number| {
                let mut record = IssuanceRecord {
                    number,
                    spiffe_id: format!("spiffe://mesh.local/ns/shop/sa/{number}"),
                    previous: previous.clone().into(),
                    ..IssuanceRecord::default()
                };
                record.hash = expected_hash(&record).to_vec().into();
                previous = record.hash.to_vec();
                record
            })
            .collect()
    }

    fn verify(records: &[IssuanceRecord], issued: u64, head: &[u8]) -> Result<(), ChainError> {
        let mut chain = Chain::new();
        records.iter().try_for_each(|record| chain.check(record))?;
        chain.finish(issued, head)
    }

    #[test]
    fn a_whole_log_and_one_whose_beginning_has_expired_hold() {
        let records = log(5);
        let head = records[4].hash.clone();
        verify(&records, 5, &head).unwrap();
        verify(&records[2..], 5, &head).unwrap();
        verify(&[], 5, &head).unwrap();
    }

    #[test]
    fn a_record_that_is_changed_left_out_cut_off_or_rewritten_is_found() {
        let records = log(5);
        let head = records[4].hash.clone();
        let mut changed = records.clone();
        changed[2].spiffe_id.push('x');
        assert!(matches!(
            verify(&changed, 5, &head),
            Err(ChainError::Changed { number: 3, .. })
        ));

        let mut rewritten = changed.clone();
        rewritten[2].hash = expected_hash(&rewritten[2]).to_vec().into();
        assert!(matches!(
            verify(&rewritten, 5, &head),
            Err(ChainError::Forked { number: 4, .. })
        ));

        let mut gap = records.clone();
        gap.remove(2);
        assert_eq!(
            Err(ChainError::Gap {
                before: 2,
                found: 4
            }),
            verify(&gap, 5, &head)
        );
        assert_eq!(
            Err(ChainError::Head { issued: 5, last: 4 }),
            verify(&records[..4], 5, &head)
        );
    }
}
