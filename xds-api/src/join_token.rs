//! The join token of a host: what it may become, whom it asks, and how it knows that it is talking to the right mesh.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use std::fmt;
use std::str::FromStr;

/// What every token of this format begins with.
const PREFIX: &str = "maille1.";
/// Far more than a token with 64 controllers takes; what is longer is not a token.
const LONGEST: usize = 16 * 1024;

/// A one-time token. Its text form is `maille1.` and the base64url of a message with these fields.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Names the token in the log and in `maille token list`.
    pub id: String,
    /// Proves that the caller holds the token.
    pub secret: Vec<u8>,
    /// The exact SPIFFE id that it grants. Empty for a controller's token.
    pub spiffe_id: String,
    /// `host:port` of each controller's xDS port.
    pub controllers: Vec<String>,
    /// SHA-256 over each trust root's DER. Only roots listed here are trusted before there is a certificate.
    pub roots_sha256: Vec<[u8; 32]>,
}

/// The text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// It begins with something else.
    #[error("a join token begins with `{PREFIX}`; make one with `maille token create`")]
    Prefix,
    /// It is cut or changed.
    #[error("the join token is cut or changed ({0}); copy all of it again")]
    Damaged(&'static str),
}

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "vec", tag = "2")]
    secret: Vec<u8>,
    #[prost(string, tag = "3")]
    spiffe_id: String,
    #[prost(string, repeated, tag = "4")]
    controllers: Vec<String>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    roots_sha256: Vec<Vec<u8>>,
}

impl fmt::Display for JoinToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = Wire {
            id: self.id.clone(),
            secret: self.secret.clone(),
            spiffe_id: self.spiffe_id.clone(),
            controllers: self.controllers.clone(),
            roots_sha256: self.roots_sha256.iter().map(|hash| hash.to_vec()).collect(),
        };
        let text = URL_SAFE_NO_PAD.encode(wire.encode_to_vec());
        write!(out, "{PREFIX}{text}")
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let body = text.trim().strip_prefix(PREFIX);
        let body = body.ok_or(JoinTokenError::Prefix)?;
        if body.len() > LONGEST {
            return Err(JoinTokenError::Damaged("it is too long"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(body);
        let bytes = bytes.map_err(|_| JoinTokenError::Damaged("it is not base64url"))?;
        let wire = Wire::decode(bytes.as_slice());
        let wire = wire.map_err(|_| JoinTokenError::Damaged("its fields cannot be read"))?;
        let hashes = wire
            .roots_sha256
            .iter()
            .map(|hash| hash.as_slice().try_into());
        let roots_sha256: Result<Vec<[u8; 32]>, _> = hashes.collect();
        let roots_sha256 =
            roots_sha256.map_err(|_| JoinTokenError::Damaged("a root's hash is not 32 bytes"))?;
        if wire.id.is_empty() || wire.secret.is_empty() || roots_sha256.is_empty() {
            return Err(JoinTokenError::Damaged("a field is missing"));
        }
        Ok(Self {
            id: wire.id,
            secret: wire.secret,
            spiffe_id: wire.spiffe_id,
            controllers: wire.controllers,
            roots_sha256,
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("spiffe_id", &self.spiffe_id)
            .field("controllers", &self.controllers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            id: "t1".into(),
            secret: vec![7; 32],
            spiffe_id: "spiffe://mesh.local/ns/shop/sa/web".into(),
            controllers: vec!["c1:4700".into(), "[fd00::1]:4700".into()],
            roots_sha256: vec![[9; 32]],
        }
    }

    #[test]
    fn a_token_reads_as_it_was_written() {
        let text = token().to_string();
        assert_eq!(text.parse::<JoinToken>().unwrap(), token());
        assert_eq!(format!(" {text}\n").parse::<JoinToken>().unwrap(), token());
    }

    #[test]
    fn the_text_of_a_released_token_can_still_be_read() {
        let released = "maille1.CgJ0MRIgBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcaInNwaWZmZTovL21lc2gubG9jYWwvbnMvc2hvcC9zYS93ZWIiB2MxOjQ3MDAiDltmZDAwOjoxXTo0NzAwKiAJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQ";
        assert_eq!(token().to_string(), released);
    }

    #[test]
    fn the_secret_is_not_printed() {
        // The secret is 32 sevens; the addresses of the controllers have one each.
        let printed = format!("{:?}", token());
        assert!(
            !printed.contains("7, 7") && !printed.contains("0707"),
            "{printed}"
        );
    }

    #[test]
    fn a_cut_token_is_refused_wherever_it_is_cut() {
        let text = token().to_string();
        for end in 0..text.len() {
            let refused = text[..end].parse::<JoinToken>().unwrap_err();
            assert!(matches!(
                refused,
                JoinTokenError::Prefix | JoinTokenError::Damaged(_)
            ));
        }
    }
}
