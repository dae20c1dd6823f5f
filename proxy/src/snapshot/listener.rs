//! Where a destination's bytes go first: its listener, its DNS answer, the roots it is checked against.

use super::route::Backends;
use std::net::IpAddr;
use std::sync::Arc;

/// How the bytes of a port are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// From the first bytes; a server that speaks first is opaque.
    #[default]
    Detect,
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS of its own.
    Http2,
    /// HTTP/2 whose errors are told as gRPC statuses.
    Grpc,
    /// Opaque bytes, server-first protocols included.
    Tcp,
    /// The application's own TLS, passed through.
    Tls,
}

/// One port of a service, as a client calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `out/<ip>:<port>` or `out/<service>.<namespace>:<port>`.
    pub name: Arc<str>,
    /// The service's namespace.
    pub namespace: Arc<str>,
    /// The service's name.
    pub service: Arc<str>,
    /// The service's port.
    pub port: u16,
    /// How its bytes are understood.
    pub protocol: Protocol,
    /// The name of the routes that HTTP takes. None: the port is never HTTP.
    pub routes: Option<Arc<str>>,
    /// Where everything that is not HTTP goes. None: the port is always HTTP.
    pub opaque: Option<Arc<Backends>>,
}

/// What DNS answers for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The service's namespace.
    pub namespace: Arc<str>,
    /// The service's name.
    pub service: Arc<str>,
    /// Virtual addresses, v4 before v6. Empty: the name exists and has none.
    pub addresses: Vec<IpAddr>,
    /// Seconds that a resolver may keep the answer.
    pub ttl_seconds: u32,
}

/// The roots of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The trust domain.
    pub trust_domain: Arc<str>,
    /// DER, the active root first.
    pub certificates: Vec<Vec<u8>>,
}
