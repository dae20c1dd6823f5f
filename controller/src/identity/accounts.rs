//! Who stands behind a service account's token: asked of whoever issued it.

use std::fmt;

use futures_util::future::BoxFuture;

/// The audience that a token must be for: one that was given to another service must not be good here.
pub const AUDIENCE: &str = "maille";

/// A pod, as the issuer of its token vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub name: String,
    /// Its own name.
    pub pod: String,
}

/// A token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// No Kubernetes belongs to this mesh.
    #[error("this mesh has no Kubernetes; use a join token")]
    None,
    /// It is not good.
    #[error("the service account's token is refused: {0}")]
    Refused(String),
    /// It is good, and of somebody who may not use it so.
    #[error("the service account's token proves {proved}, not {claimed}")]
    Another {
        /// Whom it proves.
        proved: String,
        /// Whom the caller says that it is.
        claimed: String,
    },
    /// Its namespace is one of hosts: who is whom there is said by join tokens.
    #[error("the namespace `{0}` does not belong to Kubernetes; use a join token")]
    Namespace(String),
    /// The issuer does not answer.
    #[error("nobody can say whose the service account's token is: {0}")]
    Unavailable(String),
}

/// Who knows service accounts' tokens.
pub trait Accounts: fmt::Debug + Send + Sync + 'static {
    /// Whose a token is. It must be for [`AUDIENCE`] and bound to a pod that is there.
    fn review(&self, token: String) -> BoxFuture<'static, Result<Account, AccountError>>;
}
