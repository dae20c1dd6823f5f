//! One connection to a known destination: what it speaks, then its requests or its bytes.

use super::Outbound;
use super::binding::Binding;
use super::opaque::{self, Connected};
use super::target::OpaqueError;
use crate::balance::hash;
use crate::detect::Detected;
use crate::http::{Body, Handler, serve_http1, serve_http2};
use crate::metrics::Direction;
use crate::net::{self, Prefixed};
use crate::opening::{HEAD_START, Opening, open};
use crate::snapshot::Protocol;
use bytes::{Bytes, BytesMut};
use h2::Reason;
use http::{Request, Response};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// What one connection knows of its destination.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) outbound: Arc<Outbound>,
    name: Arc<str>,
    last: Arc<Mutex<Arc<Binding>>>,
    /// The client's address, hashed: the same client goes to the same endpoint.
    pub(super) client: u64,
}

impl Connection {
    /// The destination as it is now. None: it is gone.
    pub(super) fn binding(&self) -> Option<Arc<Binding>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.outbound.bindings.current(&self.name, Some(&last))?;
        if !Arc::ptr_eq(&now, &last) {
            *last = now.clone();
        }
        Some(now)
    }
}

impl Handler for Connection {
    /// An application gets an answer in any case.
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, Reason> {
        Ok(super::request::answer(self, request).await)
    }
}

pub(super) async fn serve(outbound: Arc<Outbound>, mut stream: TcpStream, name: Arc<str>) {
    let Some(binding) = outbound.bindings.current(&name, None) else {
        return outbound.unknown(stream, &name);
    };
    let bound = binding.bound.clone();
    let client = stream
        .peer_addr()
        .map_or(0, |peer| hash(peer.ip().to_string().as_bytes()));
    let mut connected = None;
    let opened = match bound.listener.protocol {
        Protocol::Tcp | Protocol::Tls => Ok(opaque_from_the_start()),
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => open(&mut stream, None, never).await,
        Protocol::Detect => {
            let head_start = if bound.server_first.load(Ordering::Relaxed) {
                Duration::ZERO
            } else {
                HEAD_START
            };
            let connect = async || {
                let connecting = Box::pin(opaque::connect(&bound, client));
                let Connected { upstream, held } = connecting.await?;
                connected = Some(held);
                Ok::<_, OpaqueError>(upstream)
            };
            open(&mut stream, Some(head_start), connect).await
        }
    };
    let opening = match opened {
        Ok(opening) => opening,
        Err(OpaqueError::Client(error)) => {
            return tracing::debug!(%error, "a client was gone before it spoke");
        }
        Err(error) => return opaque::refuse(&outbound, &bound, stream, &error),
    };
    outbound
        .shared
        .metrics
        .detected(Direction::Outbound, opening.detected.name());
    let shared = outbound.shared.clone();
    let last = Arc::new(Mutex::new(binding));
    let handler = Connection {
        outbound: outbound.clone(),
        name,
        last,
        client,
    };
    let first = opening.first.freeze();
    let may_be_http = bound.routes.is_some();
    match opening.detected {
        Detected::Http1 if may_be_http => {
            let io = Prefixed::new(first, stream);
            return serve_http1(io, shared.work, shared.tasks, handler).await;
        }
        // Boxed here and below: while a client is silent its task takes no room for what it may turn out to need.
        Detected::Http2 if may_be_http => {
            let io = Prefixed::new(first, stream);
            return Box::pin(serve_http2(io, shared.work, handler)).await;
        }
        _ => {}
    }
    bound.server_first.store(
        first.is_empty() && opening.upstream.is_some(),
        Ordering::Relaxed,
    );
    let ready = opening.upstream.zip(connected);
    let ready = ready.map(|(upstream, held)| Connected { upstream, held });
    Box::pin(carry(&outbound, &bound, stream, first, ready, client)).await;
}

async fn carry(
    outbound: &Outbound,
    bound: &Arc<super::binding::Bound>,
    stream: TcpStream,
    first: Bytes,
    ready: Option<Connected>,
    client: u64,
) {
    if bound.opaque.is_empty() {
        tracing::info!(
            service = &*bound.service,
            "refused bytes that are not HTTP on a port that is"
        );
        outbound
            .shared
            .metrics
            .error(Direction::Outbound, &bound.service, "not_http");
        return net::reset(stream);
    }
    let connected = match ready {
        Some(connected) => Ok(connected),
        None => opaque::connect(bound, client).await,
    };
    match connected {
        Ok(connected) => opaque::carry(outbound, bound, stream, first, connected).await,
        Err(error) => opaque::refuse(outbound, bound, stream, &error),
    }
}

fn opaque_from_the_start() -> Opening {
    Opening {
        detected: Detected::Opaque,
        first: BytesMut::new(),
        upstream: None,
    }
}

/// Where the client always speaks first the server is never connected before it has.
async fn never() -> Result<crate::tcp::Upstream, OpaqueError> {
    Err(OpaqueError::Unavailable("the client speaks first"))
}
