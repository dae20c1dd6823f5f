//! TLS as the controller uses it: version 1.3 only, certificates that change under running servers, connections with callers.

mod accept;
mod connect;
mod rotating;
mod serve;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use accept::{AcceptLimits, Caller, Connection, accept};
pub use connect::Connector;
pub use rotating::RotatingCertificate;
pub use serve::{Http2, Link, serve};

/// The protocol that all of our ports speak inside TLS.
pub const ALPN_H2: &[u8] = b"h2";

/// aws-lc, with X25519MLKEM768 first.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The only TLS version in use.
pub const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
