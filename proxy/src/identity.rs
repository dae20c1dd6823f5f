//! Who this workload is: its key, which never leaves the host, its certificate, and whom it trusts.

mod credentials;
mod issue;
mod joining;
mod key;
mod renewal;
mod store;
#[cfg(test)]
mod tests;
mod verify;

pub use credentials::{CredentialError, Credentials};
pub use issue::{IssueError, JoinFailure};
pub use joining::{Joining, Tokens};
pub use key::{KeyError, PrivateKey};
pub use renewal::{Identity, IdentityError, Settings, start};
pub use store::{StoreError, Stored};
pub(crate) use verify::ExpectIdentity;
pub use verify::{LeafError, identity_of};

/// The SPIFFE id that a controller of the trust domain must prove.
pub fn controller_of(trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}/ns/maille-system/sa/maille-controller")
}
