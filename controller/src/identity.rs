//! The certificate authority: the root sealed in Raft, an issuing key of our own in memory, tokens, and a record of every leaf.
//!
//! The root key is opened only for the moment of a signature; the data key likewise. Absent: who may talk to whom
//! (`model`'s policies), and the peers' own CA.

mod accounts;
mod authority;
mod first_trust;
mod handout;
mod issue;
mod ledger;
mod request;
mod root;
mod seal;
mod service;
mod server_tls;
mod tokens;

pub use accounts::{AUDIENCE, Account, AccountError, Accounts};
pub use authority::{Asking, Authority, AuthoritySettings, Certified, Standing};
pub use first_trust::{FirstTrustError, fetch_secrets};
pub use issue::IssueError;
pub use root::RootError;
pub use seal::{Keyring, SealError};
pub use server_tls::ServerTls;
pub use service::IdentityService;
pub use tokens::{NewToken, TokenError, new_token};

/// The identity under which every controller serves xDS.
pub fn controller_identity(trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}/ns/maille-system/sa/maille-controller")
}

/// Unix seconds by this host's clock.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}

#[cfg(test)]
mod tests;
