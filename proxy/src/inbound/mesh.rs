//! A connection of a peer: mutual TLS, then `maille/1`; what others speak goes to `foreign`.

use super::foreign;
use super::port::PortView;
use super::request::{Caller, ToPort};
use super::{ANOTHER_WORKLOAD, Inbound};
use crate::detect::Detected;
use crate::http::{
    Arrival, Asked, Body, Failure, Interim, Kind, answer, arrive, serve_http1, serve_http2,
};
use crate::metrics::{ConnectionLabels, Direction};
use crate::net::Prefixed;
use crate::opening::{Opening, open};
use crate::snapshot::Protocol;
use crate::tcp::{Upstream, relay_in};
use crate::tls::{self, Accepted, Form, Greeting, Mesh, TlsError};
use crate::wire::{self, Stream, Tunnel};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

pub(super) async fn serve(inbound: Arc<Inbound>, stream: TcpStream, local: IpAddr) {
    let Some(mesh) = certificate(&inbound) else {
        return;
    };
    let accepted = mesh.accept(stream).await;
    serve_accepted(inbound, accepted, local).await;
}

/// The same for a peer whose first words have chosen this workload.
pub(super) async fn serve_greeted(inbound: Arc<Inbound>, greeting: Greeting, local: IpAddr) {
    let Some(mesh) = certificate(&inbound) else {
        return;
    };
    let accepted = mesh.answer(greeting).await;
    serve_accepted(inbound, accepted, local).await;
}

fn certificate(inbound: &Inbound) -> Option<Arc<Mesh>> {
    let mesh = inbound.shared.mesh.borrow().clone();
    if mesh.is_none() {
        let metrics = &inbound.shared.metrics;
        metrics.error(Direction::Inbound, "", "no_certificate");
    }
    mesh
}

async fn serve_accepted(
    inbound: Arc<Inbound>,
    accepted: Result<Accepted, TlsError>,
    local: IpAddr,
) {
    let shared = inbound.shared.clone();
    let Accepted {
        tls,
        peer,
        form,
        port,
    } = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::debug!(%error, "a peer was refused");
            return shared.metrics.handshake("server", "failed");
        }
    };
    let state = tls.get_ref().1;
    shared.metrics.handshake(
        "server",
        if tls::resumed(state) {
            "resumed"
        } else {
            "full"
        },
    );
    let valid = tls::valid_for(state);
    let caller = Caller::new(inbound, local, Some(peer));
    match (form, port) {
        (Form::Native, _) => {}
        // Boxed: what peers mostly speak must not take its room.
        (form, Some(port)) if caller.inbound.serves(port) => {
            return Box::pin(foreign::serve(caller, tls, form, port, valid)).await;
        }
        (_, Some(_)) => {
            return shared
                .metrics
                .error(Direction::Inbound, "", ANOTHER_WORKLOAD);
        }
        (_, None) => {
            return shared
                .metrics
                .error(Direction::Inbound, "", "no_target_port");
        }
    }
    let ended = wire::serve(tls, shared.work, tokio::time::sleep(valid), |stream| {
        serve_stream(caller.clone(), stream)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a peer's connection ended");
    }
}

async fn serve_stream(caller: Arc<Caller>, stream: Stream) {
    let (mut parts, body) = stream.request.into_parts();
    match arrive(&mut parts) {
        // The certificate was shown for another workload's port: whoever is meant has not been asked who it is.
        Some(Arrival { port, .. }) if !caller.inbound.serves(port) => {
            tracing::debug!(port, "a peer named a port that is not this workload's");
            let metrics = &caller.inbound.shared.metrics;
            metrics.error(Direction::Inbound, "", ANOTHER_WORKLOAD);
            answer(stream.respond, None, refused(Failure::Denied)).await;
        }
        Some(Arrival {
            port,
            kind: Kind::Http,
        }) => {
            let interim = Interim::wanted(&mut parts);
            let request = Request::from_parts(parts, Body::http2(body));
            answer(stream.respond, interim, caller.answer_peer(port, request)).await;
        }
        Some(Arrival {
            port,
            kind: Kind::Tcp,
        }) => serve_tunnel(caller, port, body, stream.respond).await,
        None => {
            answer(stream.respond, None, refused(Failure::BadRequest)).await;
        }
    }
}

async fn refused(failure: Failure) -> Result<Response<Body>, Reason> {
    Ok(failure.response(Asked::default()))
}

/// Opaque bytes. What turns out to be HTTP, where the port may be that, is treated as HTTP: else a peer could walk around the
/// rules for requests, or forge who it is, by saying that its bytes are opaque.
async fn serve_tunnel(
    caller: Arc<Caller>,
    port: u16,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let Some(view) = caller.view(port) else {
        return answer(respond, None, refused(Failure::Refused)).await;
    };
    let may_be_http = !matches!(view.policy.protocol, Protocol::Tcp | Protocol::Tls);
    if !may_be_http && !view.allows(None) {
        caller.inbound.shared.metrics.error(
            Direction::Inbound,
            &view.service,
            Failure::Denied.name(),
        );
        return answer(respond, None, refused(Failure::Denied)).await;
    }
    let mut upstream = None;
    if !may_be_http {
        match connect(&view).await {
            Ok(application) => upstream = Some(Upstream::Tcp(application)),
            Err(_) => return answer(respond, None, refused(Failure::Connect)).await,
        }
    }
    let mut accepted = Response::new(());
    accepted.headers_mut().insert(wire::FORM, wire::TCP);
    let Ok(send) = respond.send_response(accepted, false) else {
        return;
    };
    let mut tunnel = Tunnel::new(send, body);
    let mut first = Bytes::new();
    if may_be_http {
        let connect = async || {
            if view.allows(None) {
                connect(&view).await.map(Upstream::Tcp)
            } else {
                Err(io::ErrorKind::PermissionDenied.into())
            }
        };
        let server_first = (view.policy.protocol == Protocol::Detect).then_some(Duration::ZERO);
        match open(&mut tunnel, server_first, connect).await {
            Ok(opening) => match http_or_rest(&caller, port, tunnel, opening).await {
                Some((rest, opening)) => {
                    tunnel = rest;
                    first = opening.first.freeze();
                    upstream = opening.upstream;
                }
                None => return,
            },
            Err(error) => {
                tracing::debug!(%error, "a peer's stream was refused or lost");
                return tunnel.send.reset();
            }
        }
    }
    relay_tunnel(&caller, &view, tunnel, first, upstream).await;
}

/// Serves HTTP, or gives back what is not.
async fn http_or_rest(
    caller: &Arc<Caller>,
    port: u16,
    tunnel: Tunnel,
    opening: Opening,
) -> Option<(Tunnel, Opening)> {
    let shared = &caller.inbound.shared;
    shared
        .metrics
        .detected(Direction::Inbound, opening.detected.name());
    let handler = ToPort {
        caller: caller.clone(),
        port,
    };
    match opening.detected {
        Detected::Http1 => {
            let io = Prefixed::new(opening.first.freeze(), tunnel);
            serve_http1(io, shared.work.clone(), shared.tasks.clone(), handler).await;
            None
        }
        Detected::Http2 => {
            serve_http2(
                Prefixed::new(opening.first.freeze(), tunnel),
                shared.work.clone(),
                handler,
            )
            .await;
            None
        }
        Detected::Tls | Detected::Opaque => Some((tunnel, opening)),
    }
}

pub(super) async fn connect(view: &PortView) -> io::Result<TcpStream> {
    let application = view
        .application
        .as_ref()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    application.connect().await.map_err(io::Error::other)
}

async fn relay_tunnel(
    caller: &Arc<Caller>,
    view: &PortView,
    mut tunnel: Tunnel,
    first: Bytes,
    upstream: Option<Upstream>,
) {
    let application = match upstream {
        Some(Upstream::Tcp(stream)) => Ok(stream),
        _ if view.allows(None) => connect(view).await,
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    };
    let application = match application {
        Ok(application) => application,
        Err(error) => {
            tracing::debug!(%error, port = view.port, "no connection to the application");
            return tunnel.send.reset();
        }
    };
    let open = caller.inbound.shared.metrics.connection(&ConnectionLabels {
        direction: Direction::Inbound,
        service: view.service.to_string(),
        protocol: "tcp",
        tls: "mesh",
        peer: caller
            .peer
            .as_ref()
            .map_or_else(String::new, |peer| peer.id.to_string()),
    });
    let cut = no_longer_allowed(caller, view.port);
    if let Err(error) = relay_in(tunnel, first, application, &open.metrics, cut).await {
        tracing::debug!(%error, "an opaque stream broke off");
    }
}

/// Ends when the policy that holds now refuses the connection.
pub(super) async fn no_longer_allowed(caller: &Caller, port: u16) {
    let mut snapshots = caller.inbound.shared.directory.snapshots().clone();
    loop {
        // No further snapshots can come: what holds now holds.
        if snapshots.changed().await.is_err() {
            return std::future::pending().await;
        }
        snapshots.borrow_and_update();
        if caller.view(port).is_none_or(|view| !view.still_allows()) {
            return;
        }
    }
}
