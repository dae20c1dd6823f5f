//! Join tokens: a hash, what it grants, until when, and whether it was used.

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum TokenPurpose {
    /// Never valid.
    Unspecified = 0,
    /// A workload's first certificate.
    Workload = 1,
    /// A controller that joins the cluster.
    Controller = 2,
}

/// A join token. The secret is not here, only its hash.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Token {
    /// Public; stands in the token and in lists.
    #[prost(string, tag = "1")]
    pub id: String,
    /// SHA-256 of the secret.
    #[prost(bytes = "bytes", tag = "2")]
    pub secret_sha256: bytes::Bytes,
    /// What it is good for.
    #[prost(enumeration = "TokenPurpose", tag = "3")]
    pub purpose: i32,
    /// For a workload: the exact identity that it grants.
    #[prost(string, tag = "4")]
    pub spiffe_id: String,
    /// Unix seconds.
    #[prost(int64, tag = "5")]
    pub expires_at: i64,
    /// Unix seconds; 0: not used yet.
    #[prost(int64, tag = "6")]
    pub used_at: i64,
    /// What used it: a leaf's serial, or a controller's name.
    #[prost(string, tag = "7")]
    pub used_by: String,
    /// Who made it.
    #[prost(string, tag = "8")]
    pub author: String,
}

impl Token {
    /// When it is forgotten: until then a used or expired token is told from an unknown one.
    pub const fn forgotten_at(&self) -> i64 {
        self.expires_at
            .saturating_add(super::limits::TOKEN_KEPT_SECONDS)
    }
}
