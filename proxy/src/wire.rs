//! `maille/1`: few HTTP/2 connections between proxies carry everything. Also the plain HTTP/2 that applications speak.
//!
//! Every stream carries `maille-port`, the target port, and `maille-form`, what it stands for: `h2` (an HTTP/2 exchange as it
//! is), `http/1.0` (an HTTP/1.0 exchange), nothing (an HTTP/1.1 exchange) or `tcp` (a CONNECT stream of opaque bytes).
//! An HTTP/1 upgrade is an extended CONNECT (RFC 8441) whose `:protocol` is the `Upgrade` header; its method stands in
//! `maille-method` where it is not GET, and a 101 comes back as 200 with `maille-upgrade`.

mod connection;
mod peer;
mod secured;
mod receive;
mod send;
mod server;
mod tunnel;

pub use connection::{Connection, StreamLease};
pub use peer::{DialError, Peer};
pub use receive::Receive;
pub use secured::Secured;
pub use send::{Send, SendError};
pub use server::{Stream, serve};
pub use tunnel::{Tunnel, TunnelReceive, TunnelSend};

use http::{HeaderName, HeaderValue};
use std::time::Duration;

/// The target port.
pub const PORT: HeaderName = HeaderName::from_static("maille-port");
/// What the stream stands for.
pub const FORM: HeaderName = HeaderName::from_static("maille-form");
/// The method of an upgrade that is not a GET.
pub const METHOD: HeaderName = HeaderName::from_static("maille-method");
/// The protocol that a 101 agreed to.
pub const UPGRADE: HeaderName = HeaderName::from_static("maille-upgrade");
/// `maille-form` of opaque bytes.
pub const TCP: HeaderValue = HeaderValue::from_static("tcp");
/// `maille-form` of HTTP/2.
pub const HTTP_2: HeaderValue = HeaderValue::from_static("h2");
/// `maille-form` of HTTP/1.0.
pub const HTTP_10: HeaderValue = HeaderValue::from_static("http/1.0");

/// Streams on one connection; past it another is opened. One connection's TLS and framing are one task's work, so more
/// streams on it would wait for each other, and fewer would cost handshakes.
const STREAMS: u32 = 256;
/// What may be under way to one stream: enough for 1 GB/s at 1 ms.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// What may be under way on one connection, and so what one slow reader can make the proxy hold.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Of one DATA frame: four TLS records, so that bulk takes few frames and others still get between.
const FRAME: u32 = 64 * 1024;
/// Of all headers of one message, as large as what HTTP/1 servers take.
const HEADERS: u32 = 64 * 1024;
/// What a stream may keep that its window does not yet take.
const SEND_BUFFER: usize = 256 * 1024;
/// How often a connection is asked whether its peer lives.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long the answer may take. Also, with the interval, how long a dead peer goes unnoticed.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// A connection without streams is closed after this: a little longer than clients keep their own.
const IDLE: Duration = Duration::from_secs(90);
