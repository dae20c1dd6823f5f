//! A connection of an Envoy or a gRPC program over mutual TLS: plain HTTP, or the bytes of one opaque connection. SNI has
//! named the target port.

use super::mesh::{connect, no_longer_allowed};
use super::port::PortView;
use super::request::{Caller, ToPort};
use crate::detect::Detected;
use crate::http::{Failure, serve_http1, serve_http1_until, serve_http2, serve_http2_until};
use crate::metrics::{ConnectionLabels, Direction};
use crate::net::Prefixed;
use crate::opening::{Opening, open};
use crate::snapshot::Protocol;
use crate::tcp::{Upstream, relay_secured};
use crate::tls::{Form, Socket};
use bytes::BytesMut;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::server::TlsStream;

/// `valid`: how long the peer's certificate is good for.
pub(super) async fn serve(
    caller: Arc<Caller>,
    tls: TlsStream<Socket>,
    form: Form,
    port: u16,
    valid: Duration,
) {
    let shared = caller.inbound.shared.clone();
    let ending = tokio::time::sleep(valid);
    let handler = ToPort {
        caller: caller.clone(),
        port,
    };
    match form {
        Form::Http1 => serve_http1_until(tls, shared.work, shared.tasks, ending, handler).await,
        Form::Http2 | Form::Native => serve_http2_until(tls, shared.work, ending, handler).await,
        Form::Opaque => opaque(caller, tls, port).await,
    }
}

/// Opaque bytes. What turns out to be HTTP, where the port may be that, is treated as HTTP, as in a tunnel.
async fn opaque(caller: Arc<Caller>, mut tls: TlsStream<Socket>, port: u16) {
    let metrics = &caller.inbound.shared.metrics;
    let Some(view) = caller.view(port) else {
        return metrics.error(Direction::Inbound, "", "not_told_yet");
    };
    let connect = async || match view.allows(None) {
        true => connect(&view).await,
        false => Err(io::ErrorKind::PermissionDenied.into()),
    };
    let opened = match view.policy.protocol {
        Protocol::Tcp | Protocol::Tls => Ok(Opening {
            detected: Detected::Opaque,
            first: BytesMut::new(),
            upstream: None,
        }),
        // The caller's own proxy has waited for the client to speak already.
        Protocol::Detect => {
            let connect = async || connect().await.map(Upstream::Tcp);
            open(&mut tls, Some(Duration::ZERO), connect).await
        }
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => {
            open(&mut tls, None, async || Err(io::ErrorKind::Other.into())).await
        }
    };
    let opening = match opened {
        Ok(opening) => opening,
        Err(error) => return refused(&caller, &view, &error),
    };
    metrics.detected(Direction::Inbound, opening.detected.name());
    let shared = caller.inbound.shared.clone();
    let handler = ToPort {
        caller: caller.clone(),
        port,
    };
    let first = opening.first.freeze();
    match opening.detected {
        Detected::Http1 => {
            let io = Prefixed::new(first, tls);
            return serve_http1(io, shared.work, shared.tasks, handler).await;
        }
        Detected::Http2 => {
            return serve_http2(Prefixed::new(first, tls), shared.work, handler).await;
        }
        Detected::Tls | Detected::Opaque => {}
    }
    let application = match opening.upstream {
        Some(Upstream::Tcp(application)) => Ok(application),
        _ => connect().await,
    };
    let application = match application {
        Ok(application) => application,
        Err(error) => return refused(&caller, &view, &error),
    };
    let peer = caller.peer.as_ref();
    let open = shared.metrics.connection(&ConnectionLabels {
        direction: Direction::Inbound,
        service: view.service.to_string(),
        protocol: "tcp",
        tls: "mesh",
        peer: peer.map_or_else(String::new, |peer| peer.id.to_string()),
    });
    let cut = no_longer_allowed(&caller, port);
    if let Err(error) = relay_secured(tls, first, application, &open.metrics, cut).await {
        tracing::debug!(%error, "an opaque connection broke off");
    }
}

/// The connection is closed; there is no form in which opaque bytes could say why.
fn refused(caller: &Caller, view: &PortView, error: &io::Error) {
    tracing::debug!(%error, port = view.port, "a peer's connection was refused or lost");
    let failure = match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Denied,
        _ => Failure::Connect,
    };
    let metrics = &caller.inbound.shared.metrics;
    metrics.error(Direction::Inbound, &view.service, failure.name());
}
