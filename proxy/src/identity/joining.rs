//! How the first certificate is got: by a join token, once, or by whichever is there when one is needed.

use super::renewal::IdentityError;
use xds_api::join_token::JoinToken;

/// Where a join token is found each time that one is needed.
pub trait Tokens: Send + Sync + std::fmt::Debug {
    /// The token that is there now.
    fn read(&self) -> Result<Option<JoinToken>, Box<dyn std::error::Error + Send + Sync>>;
}

/// How the first certificate is got.
#[derive(Debug)]
pub enum Joining {
    /// By this token. Where it is of no use there is no use in going on: the process ends.
    Once(Option<JoinToken>),
    /// By the token that is there, now or later: others serve on, whatever becomes of this workload.
    Again(Box<dyn Tokens>),
}

impl Joining {
    /// Whether a token may come later.
    pub(super) fn again(&self) -> bool {
        matches!(self, Self::Again(_))
    }

    /// The token that is there now.
    pub(super) fn token(&self) -> Result<Option<JoinToken>, IdentityError> {
        match self {
            Self::Once(token) => Ok(token.clone()),
            Self::Again(tokens) => {
                let read = tokens.read();
                read.map_err(|error| IdentityError::Token(error.to_string()))
            }
        }
    }
}
