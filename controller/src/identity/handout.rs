//! The cluster's secrets for a new controller's host: handed out to the holder of a controller's join token.
//!
//! The token is not used up by it: that happens as the controller joins, and a download that broke off can be repeated until then.

use std::path::Path;

use xds_api::join_token::JoinToken;
use xds_api::maille::v1::SecretsResponse;

use super::{TokenError, now, tokens};
use crate::model::{State, TokenPurpose};
use crate::peer_ca::{self, SecretsError};

/// Why the secrets stay here.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandoutError {
    /// The token does not grant them.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// This controller's own cannot be read.
    #[error("this controller cannot read its own secrets")]
    Secrets(#[from] SecretsError),
}

/// The secrets in `directory`, for `token`.
pub(super) fn hand_out(
    state: &State,
    token: &str,
    directory: &Path,
) -> Result<(String, SecretsResponse), HandoutError> {
    let shown: JoinToken = token.parse().map_err(TokenError::Text)?;
    tokens::check(state, &shown, TokenPurpose::Controller, now())?;
    Ok((shown.id, peer_ca::copy_of(directory)?))
}
