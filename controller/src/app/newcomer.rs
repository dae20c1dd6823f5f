//! The secrets of a controller that starts: its own, or, where it joins by a token and has none yet, the cluster's.

use tracing::info;
use xds_api::join_token::JoinToken;

use super::{Failure, consensus};
use crate::config::Config;
use crate::identity;
use crate::peer_ca::{self, Secrets, SecretsError};

pub(super) async fn secrets(config: &Config) -> Result<Secrets, Failure> {
    let missing = match (Secrets::load(&config.secrets), &config.join_token_file) {
        (Err(SecretsError::Missing { path }), Some(token)) => (path, token),
        (loaded, _) => return Ok(loaded?),
    };
    let (directory, file) = missing;
    let token: JoinToken =
        consensus::read_token(file)?
            .parse()
            .map_err(|source| Failure::Token {
                path: file.clone(),
                source,
            })?;
    let fetched = identity::fetch_secrets(&token).await?;
    peer_ca::write_copy(&directory, &fetched)?;
    info!(directory = %directory.display(), "fetched the cluster's secrets with the join token");
    Ok(Secrets::load(&directory)?)
}
