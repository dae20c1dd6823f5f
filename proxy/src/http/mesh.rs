//! HTTP over HTTP/2 streams: `maille/1` between proxies, and plain HTTP/2 with an application.

use super::application::FromHttp2;
use super::body::Body;
use super::failure::{Failure, Unserved};
use super::interim::{self, Interim};
use super::upgrade::Upgrade;
use crate::supervise::Tasks;
use crate::wire::{self, DialError, Peer, StreamLease};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use std::future::poll_fn;
use std::time::Duration;

/// Connections that may turn out to be closing before one takes the request.
const LEASES: usize = 4;

/// What a stream of `maille/1` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opaque bytes.
    Tcp,
    /// An HTTP exchange.
    Http,
}

/// What a stream's head says.
#[derive(Debug)]
pub struct Arrival {
    /// The target port.
    pub port: u16,
    /// What it stands for.
    pub kind: Kind,
}

/// Sends a request on a stream to `peer`. `port` names the target of `maille/1`; without it the peer is an application.
/// `queue` is asked before the request waits for a connection; what it gives is held meanwhile.
pub async fn exchange<Q>(
    peer: &Peer,
    limit: Duration,
    tasks: &Tasks,
    port: Option<&HeaderValue>,
    request: Request<Body>,
    queue: impl Fn() -> Result<Q, Failure>,
) -> Result<Response<Body>, Unserved> {
    let (lease, mut send) = match ready(peer, limit, queue).await {
        Ok(ready) => ready,
        Err(failure) => return Err(Unserved::Unsent(Box::new(request), failure)),
    };
    let (mut parts, body) = request.into_parts();
    let version = parts.version;
    let upgrade = parts.extensions.remove::<Upgrade>();
    let interim = parts.extensions.remove::<Interim>();
    let expects = interim::expects(&parts.headers);
    depart(&mut parts, port, upgrade.as_ref());
    let empty = body.is_end_stream();
    let sent = send.send_request(Request::from_parts(parts, ()), empty);
    let (mut response, stream) = sent.map_err(|error| failed(&error))?;
    let early = match expects && !empty {
        true => interim::go_ahead(&mut response, interim.as_ref()).await,
        false => None,
    };
    let answered = match early {
        Some(answered) => answered,
        None if empty => response.await,
        None => with_body(response, wire::Send::new(stream, body), tasks).await,
    };
    Ok(finish(answered, lease, version, upgrade.as_ref())?)
}

/// Sends the body and waits for the response, whichever comes first. The body goes on after the response has begun, as
/// gRPC's streams do.
async fn with_body(
    mut response: ResponseFuture,
    mut sending: wire::Send<Body>,
    tasks: &Tasks,
) -> Result<Response<h2::RecvStream>, h2::Error> {
    let sent = |sent: Result<(), wire::SendError>| {
        if let Err(error) = sent {
            tracing::debug!(%error, "a request body was not sent whole");
        }
    };
    let answered = tokio::select! {
        biased;
        answered = &mut response => answered,
        ended = &mut sending => {
            sent(ended);
            return response.await;
        }
    };
    if !sending.done() {
        tasks.spawn(async move { sent(sending.await) });
    }
    answered
}

/// A connection that takes one more stream.
async fn ready<Q>(
    peer: &Peer,
    limit: Duration,
    queue: impl Fn() -> Result<Q, Failure>,
) -> Result<(StreamLease, SendRequest<Bytes>), Failure> {
    for _ in 0..LEASES {
        let lease = match peer.ready() {
            Some(lease) => lease,
            None => {
                let _held = queue()?;
                peer.lease(limit)
                    .await
                    .map_err(|error| unreachable(&error))?
            }
        };
        let mut send = lease.send();
        if poll_fn(|context| send.poll_ready(context)).await.is_ok() {
            return Ok((lease, send));
        }
        lease.close();
    }
    Err(Failure::Refused)
}

/// As metrics and answers call it; the log has the whole.
pub(super) fn unreachable(error: &DialError) -> Failure {
    match error {
        DialError::Tls { cause, .. } => {
            tracing::warn!(%error, %cause, "no mutual TLS");
            Failure::Tls
        }
        DialError::NoCertificate => Failure::Tls,
        DialError::Full => Failure::Overloaded,
        DialError::Connect(_) | DialError::Http2 { .. } => {
            tracing::debug!(%error, "no connection");
            Failure::Connect
        }
    }
}

fn failed(error: &h2::Error) -> Failure {
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => Failure::Refused,
        _ => {
            tracing::debug!(%error, "an exchange broke off");
            Failure::Reset
        }
    }
}

/// Puts the head into the form of the wire.
fn depart(parts: &mut Parts, port: Option<&HeaderValue>, upgrade: Option<&Upgrade>) {
    if let Some(port) = port {
        parts.headers.insert(wire::PORT, port.clone());
        match parts.version {
            Version::HTTP_2 => drop(parts.headers.insert(wire::FORM, wire::HTTP_2)),
            Version::HTTP_10 => drop(parts.headers.insert(wire::FORM, wire::HTTP_10)),
            _ => {}
        }
    } else {
        name_authority(parts);
    }
    if let Some(Upgrade(Some(protocol))) = upgrade {
        let method = std::mem::replace(&mut parts.method, Method::CONNECT);
        if method != Method::GET
            && let Ok(method) = HeaderValue::try_from(method.as_str())
        {
            parts.headers.insert(wire::METHOD, method);
        }
        let protocol = protocol.to_str().unwrap_or_default();
        parts.extensions.insert(Protocol::from(protocol));
    }
    // h2 takes a target without an authority only from HTTP/1, whose `Host` stays a header on this wire.
    parts.version = Version::HTTP_11;
}

/// An HTTP/2 application expects `:authority` where HTTP/1 has `Host`.
fn name_authority(parts: &mut Parts) {
    if parts.uri.authority().is_some() {
        return;
    }
    let host = parts.headers.get(HOST).map(HeaderValue::as_bytes);
    let Some(authority) = host.and_then(|host| Authority::try_from(host).ok()) else {
        return;
    };
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority);
    uri.path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    if let Ok(uri) = Uri::from_parts(uri) {
        parts.uri = uri;
        parts.headers.remove(HOST);
    }
}

fn finish(
    answered: Result<Response<h2::RecvStream>, h2::Error>,
    lease: StreamLease,
    version: Version,
    upgrade: Option<&Upgrade>,
) -> Result<Response<Body>, Failure> {
    let mut response = answered.map_err(|error| failed(&error))?;
    *response.version_mut() = version;
    if let Some(Upgrade(Some(_))) = upgrade
        && response.status() == StatusCode::OK
    {
        let agreed = response.headers_mut().remove(wire::UPGRADE);
        if let Some(agreed) = agreed {
            response.headers_mut().insert(http::header::UPGRADE, agreed);
        }
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    Ok(response.map(|stream| Body::http2_of(stream, lease)))
}

/// Takes what the wire added from an accepted stream's head, and restores the head. None: it is not `maille/1`.
pub fn arrive(parts: &mut Parts) -> Option<Arrival> {
    let port = parts.headers.remove(wire::PORT)?;
    let port = port.to_str().ok()?.parse().ok().filter(|port| *port > 0)?;
    let form = parts.headers.remove(wire::FORM);
    let (version, kind) = match form.as_ref().map(HeaderValue::as_bytes) {
        None => (Version::HTTP_11, Kind::Http),
        Some(b"http/1.0") => (Version::HTTP_10, Kind::Http),
        Some(b"h2") => (Version::HTTP_2, Kind::Http),
        Some(b"tcp") => (Version::HTTP_2, Kind::Tcp),
        Some(_) => return None,
    };
    if version == Version::HTTP_2 {
        parts.extensions.insert(FromHttp2);
    }
    parts.version = version;
    restore_upgrade(parts)?;
    Some(Arrival { port, kind })
}

/// An extended CONNECT is an upgrade again, a plain one a CONNECT.
pub(super) fn restore_upgrade(parts: &mut Parts) -> Option<()> {
    let protocol = parts.extensions.remove::<Protocol>();
    let method = parts.headers.remove(wire::METHOD);
    if let Some(protocol) = protocol {
        let protocol = HeaderValue::try_from(protocol.as_str()).ok()?;
        parts.method = match method {
            None => Method::GET,
            Some(method) => Method::from_bytes(method.as_bytes()).ok()?,
        };
        parts.extensions.insert(Upgrade(Some(protocol)));
    } else if parts.method == Method::CONNECT {
        parts.extensions.insert(Upgrade(None));
    }
    Some(())
}
