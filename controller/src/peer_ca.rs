//! The peers' own CA: the secrets directory, each controller's short-lived peer certificate, and administrators' certificates.
//!
//! Never in Raft: controllers would need Raft to reach Raft. The admin port trusts it too, so it answers without a quorum.

mod copy;
mod credentials;
mod files;
mod grant;
mod init;
mod secrets;
mod verify;

pub use copy::{copy_of, write_copy};
pub use credentials::{PeerTls, SERVER_NAME, admin_server_config};
pub use grant::{Grant, Role};
pub use init::{AdminCertificate, InitError, Initialized, init, write_admin_certificate};
pub use secrets::{Kek, Secrets, SecretsError};
pub use verify::PeerIdentity;

/// The names in the secrets directory.
pub mod names {
    /// The peer CA's certificates, PEM; the one that signs first. A list, so that it can rotate.
    pub const CA_CERTIFICATE: &str = "peer-ca.crt";
    /// The key of its first certificate.
    pub const CA_KEY: &str = "peer-ca.key";
    /// The key-encryption key: 32 random bytes.
    pub const KEK: &str = "kek";
    /// The cluster's id, a UUID. Another cluster's data directory is told by it.
    pub const CLUSTER_ID: &str = "cluster-id";
    /// The trust domain, as given to `init`.
    pub const TRUST_DOMAIN: &str = "trust-domain";
}

#[cfg(test)]
mod tests;
