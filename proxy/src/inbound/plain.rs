//! A connection from outside the mesh, redirected from an application's port.

use super::Inbound;
use super::mesh::no_longer_allowed;
use super::request::{Caller, ToPort};
use crate::detect::Detected;
use crate::http::{serve_http1, serve_http2};
use crate::metrics::{ConnectionLabels, Direction};
use crate::net::{self, Prefixed};
use crate::opening::{HEAD_START, Opening, open};
use crate::snapshot::{Mtls, Protocol};
use crate::tcp::{Upstream, relay};
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

pub(super) async fn serve(inbound: Arc<Inbound>, mut stream: TcpStream, original: SocketAddr) {
    let shared = inbound.shared.clone();
    let port = original.port();
    let caller = Caller::new(inbound, original.ip(), None);
    let Some(view) = caller.view(port) else {
        shared.metrics.error(Direction::Inbound, "", "not_told_yet");
        return net::reset(stream);
    };
    if view.policy.mtls == Mtls::Strict {
        // Counted as a denial, and not one byte is read.
        view.allows(None);
        shared
            .metrics
            .error(Direction::Inbound, &view.service, "plaintext");
        return net::reset(stream);
    }
    let connect = async || {
        if !view.allows(None) {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        let application = view
            .application
            .as_ref()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        application
            .connect()
            .await
            .map(Upstream::Tcp)
            .map_err(io::Error::other)
    };
    let opened = match view.policy.protocol {
        Protocol::Tcp | Protocol::Tls => Ok(Opening {
            detected: Detected::Opaque,
            first: BytesMut::new(),
            upstream: None,
        }),
        Protocol::Detect => open(&mut stream, Some(HEAD_START), connect).await,
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => {
            open(&mut stream, None, connect).await
        }
    };
    let opening = match opened {
        Ok(opening) => opening,
        Err(error) => return refused(stream, &error),
    };
    shared
        .metrics
        .detected(Direction::Inbound, opening.detected.name());
    let handler = ToPort {
        caller: caller.clone(),
        port,
    };
    let first = opening.first.freeze();
    match opening.detected {
        Detected::Http1 => {
            let io = Prefixed::new(first, stream);
            return serve_http1(io, shared.work, shared.tasks, handler).await;
        }
        Detected::Http2 => {
            let io = Prefixed::new(first, stream);
            return Box::pin(serve_http2(io, shared.work, handler)).await;
        }
        Detected::Tls | Detected::Opaque => {}
    }
    let upstream = match opening.upstream {
        Some(upstream) => upstream,
        None => match connect().await {
            Ok(upstream) => upstream,
            Err(error) => return refused(stream, &error),
        },
    };
    let open = shared.metrics.connection(&ConnectionLabels {
        direction: Direction::Inbound,
        service: view.service.to_string(),
        protocol: "tcp",
        tls: "none",
        peer: String::new(),
    });
    let cut = no_longer_allowed(&caller, port);
    if let Err(error) = relay(stream, first, upstream, &open.metrics, cut).await {
        tracing::debug!(%error, "a connection broke off");
    }
}

fn refused(stream: TcpStream, error: &io::Error) {
    tracing::debug!(%error, "a connection was refused");
    net::reset(stream);
}
