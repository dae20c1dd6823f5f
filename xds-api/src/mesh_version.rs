//! Which state of the mesh an answer was made from: `system_version_info` in the native dialect.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// An incarnation (raised by a restore) and a mesh index within it. Ordered: a later one is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MeshVersion {
    /// Which life of the mesh; a client whose own differs starts afresh.
    pub incarnation: u64,
    /// The mesh index.
    pub index: u64,
}

/// A text that is no mesh version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a mesh version: `<incarnation>.<mesh index>` was expected")]
pub struct MeshVersionError(String);

impl fmt::Display for MeshVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.index)
    }
}

impl FromStr for MeshVersion {
    type Err = MeshVersionError;

    fn from_str(text: &str) -> Result<Self, MeshVersionError> {
        let wrong = || MeshVersionError(text.to_owned());
        let (incarnation, index) = text.split_once('.').ok_or_else(wrong)?;
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            if digits {
                text.parse().map_err(|_| wrong())
            } else {
                Err(wrong())
            }
        };
        Ok(Self {
            incarnation: number(incarnation)?,
            index: number(index)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_version_is_read_as_it_is_written() {
        let version = MeshVersion {
            incarnation: 2,
            index: u64::MAX,
        };
        assert_eq!(version.to_string().parse(), Ok(version));
        for text in [
            "",
            "1",
            "1.",
            ".1",
            "1.2.3",
            "+1.2",
            "1.-2",
            "1.18446744073709551616",
        ] {
            assert!(text.parse::<MeshVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_incarnation_outweighs_an_index() {
        let old = MeshVersion {
            incarnation: 1,
            index: 900,
        };
        let new = MeshVersion {
            incarnation: 2,
            index: 1,
        };
        assert!(new > old);
    }
}
