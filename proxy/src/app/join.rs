//! What the configuration says of the way to the control plane: the join token and the controllers.

use crate::config::{Config, HostPort, JoinToken as Where};
use crate::controllers::Controllers;
use crate::identity::{Joining, Tokens};
use std::error::Error;
use std::io;
use std::path::PathBuf;
use xds_api::join_token::{JoinToken, JoinTokenError};

/// There is no way to the control plane.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token's file cannot be read.
    #[error("cannot read the join token from {path}")]
    File {
        /// joinTokenFile.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The text is no token.
    #[error("the join token cannot be used")]
    Token(#[from] JoinTokenError),
    /// The token names a controller that cannot be one.
    #[error("the join token names the controller {address:?}, which {problem}")]
    Address {
        /// What it names.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Neither the configuration nor a token names a controller.
    #[error("no controller is known; set controllers, or joinToken or joinTokenFile")]
    NoControllers,
}

/// The token, if there is one, and whom to ask. A token's file may be gone once there is a certificate.
pub(super) fn join(config: &Config) -> Result<(Option<JoinToken>, Controllers), JoinError> {
    let token = match &config.join_token {
        None => None,
        Some(Where::Inline(text)) => Some(text.parse()?),
        Some(Where::File(path)) => read(path)?,
    };
    let mut controllers = config.controllers.clone();
    if controllers.is_empty() {
        let named = token
            .iter()
            .flat_map(|token: &JoinToken| &token.controllers);
        controllers = named
            .map(|named| address(named))
            .collect::<Result<_, _>>()?;
    }
    if controllers.is_empty() {
        return Err(JoinError::NoControllers);
    }
    Ok((token, Controllers::new(controllers)))
}

/// The same for one of several workloads: its token is found when it is needed, and the controllers are in the configuration.
pub(super) fn join_among_others(config: &Config) -> Result<(Joining, Controllers), JoinError> {
    let joining = match &config.join_token {
        None => Joining::Again(Box::new(NoToken)),
        // What stands in the configuration itself does not heal.
        Some(Where::Inline(text)) => Joining::Again(Box::new(Inline(text.parse()?))),
        Some(Where::File(path)) => Joining::Again(Box::new(InFile(path.clone()))),
    };
    Ok((joining, Controllers::new(config.controllers.clone())))
}

#[derive(Debug)]
struct NoToken;

#[derive(Debug)]
struct Inline(JoinToken);

#[derive(Debug)]
struct InFile(PathBuf);

impl Tokens for NoToken {
    fn read(&self) -> Result<Option<JoinToken>, Box<dyn Error + Send + Sync>> {
        Ok(None)
    }
}

impl Tokens for Inline {
    fn read(&self) -> Result<Option<JoinToken>, Box<dyn Error + Send + Sync>> {
        Ok(Some(self.0.clone()))
    }
}

impl Tokens for InFile {
    fn read(&self) -> Result<Option<JoinToken>, Box<dyn Error + Send + Sync>> {
        let Self(path) = self;
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let wrong = |error: JoinTokenError| format!("{}: {error}", path.display());
                Ok(Some(text.parse().map_err(wrong)?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", path.display()).into()),
        }
    }
}

fn read(path: &PathBuf) -> Result<Option<JoinToken>, JoinError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.parse()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::info!(path = %path.display(), "there is no join token; a stored certificate is needed");
            Ok(None)
        }
        Err(source) => Err(JoinError::File {
            path: path.clone(),
            source,
        }),
    }
}

fn address(address: &str) -> Result<HostPort, JoinError> {
    address.parse().map_err(|problem| JoinError::Address {
        address: address.to_owned(),
        problem,
    })
}
