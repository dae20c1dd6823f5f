//! Roots, sealed secrets and issuing certificates. Nothing here is ever in clear.

use bytes::Bytes;

/// Where a root stands in its rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum RootPhase {
    /// Signs new issuing certificates.
    Active = 0,
    /// In every bundle, signs nothing yet.
    Prepared = 1,
    /// In every bundle until its last leaf has ended.
    Retiring = 2,
}

/// A trust root; served to proxies.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Root {
    /// DER.
    #[prost(bytes = "bytes", tag = "1")]
    pub certificate: Bytes,
    /// Where it stands in its rotation.
    #[prost(enumeration = "RootPhase", tag = "2")]
    pub phase: i32,
}

/// A secret that was encrypted before it was proposed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Sealed {
    /// What it is, for example `data-key` or `root/<fingerprint>`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Which key opens it.
    #[prost(string, tag = "2")]
    pub sealed_by: String,
    /// Nonce, ciphertext and tag, as `identity` lays them out.
    #[prost(bytes = "bytes", tag = "3")]
    pub blob: Bytes,
}

/// A controller's issuing certificate.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Issuer {
    /// Hex.
    #[prost(string, tag = "1")]
    pub serial: String,
    /// The controller's name.
    #[prost(string, tag = "2")]
    pub controller: String,
    /// DER.
    #[prost(bytes = "bytes", tag = "3")]
    pub certificate: Bytes,
    /// Unix seconds.
    #[prost(int64, tag = "4")]
    pub not_before: i64,
    /// Unix seconds; forgotten after it.
    #[prost(int64, tag = "5")]
    pub not_after: i64,
}
