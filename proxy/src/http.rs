//! HTTP as the proxy sees it: one form of request and response for HTTP/1, HTTP/2 and `maille/1`, and what is done to them.
//!
//! Inside, an upgrade is an exchange whose bodies are the bytes of the new protocol: the request carries `Upgrade`, the
//! response is 101 (or 2xx to a CONNECT). Each server and client here translates that to and from its own wire.

mod application;
mod body;
mod failure;
mod headers;
mod interim;
mod matching;
mod mesh;
mod replay;
mod retry;
mod rewrite;
mod serve;
mod upgrade;
mod watch;

pub use application::Application;
pub use body::{Body, BodyError};
pub use failure::{Asked, ERROR, Failure, Unserved};
pub use headers::{FORWARDED_CLIENT, change, clean_response, forget_hops};
pub use interim::Interim;
pub use matching::select;
pub use mesh::{Arrival, Kind, arrive, exchange};
pub use replay::Replay;
pub use retry::{backoff, grpc_status, is_gateway_error, worth_retrying};
pub use rewrite::{redirect, rewrite};
pub use serve::{Handler, answer, serve_http1, serve_http1_until, serve_http2, serve_http2_until};
pub use upgrade::Upgrade;
pub use watch::Watch;
