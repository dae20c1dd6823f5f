//! Opaque bytes, both ways in one task. Half-closes stay half-closes, resets stay resets.

mod flow;

use crate::metrics::ConnectionMetrics;
use crate::net;
use crate::tls;
use crate::wire::Tunnel;
use bytes::Bytes;
use flow::{copy, from_tunnel, to_tcp, to_tunnel};
use std::io;
use tokio::net::TcpStream;
use tokio_rustls::client;
use tokio_rustls::server::TlsStream;

/// What the accepted side is connected with.
#[derive(Debug)]
pub enum Upstream {
    /// A stream to a meshed endpoint.
    Tunnel(Tunnel),
    /// A TLS connection of its own, to an Envoy.
    Secured(Box<SecuredStream>),
    /// An application, or an endpoint outside the mesh.
    Tcp(TcpStream),
}

/// A TLS connection for one opaque connection, and what has been read from it already.
#[derive(Debug)]
pub struct SecuredStream {
    tls: client::TlsStream<tls::Socket>,
    said: Bytes,
}

impl SecuredStream {
    /// Nothing has been read from it yet.
    pub fn new(tls: client::TlsStream<tls::Socket>) -> Self {
        let said = Bytes::new();
        Self { tls, said }
    }
}

impl Upstream {
    /// Waits until it says something, without taking it. False: it has ended its half without a word.
    pub async fn readable(&mut self) -> io::Result<bool> {
        match self {
            Self::Tunnel(tunnel) => tunnel.receive.readable().await,
            Self::Secured(secured) => {
                if secured.said.is_empty() {
                    secured.said = flow::read(&mut secured.tls).await?.unwrap_or_default();
                }
                Ok(!secured.said.is_empty())
            }
            Self::Tcp(stream) => Ok(stream.peek(&mut [0]).await? > 0),
        }
    }
}

/// Carries bytes between an accepted connection and its upstream until both have ended. `first` has been read from the
/// client already. `cut` ends it early: the connection is no longer allowed.
pub async fn relay(
    client: TcpStream,
    first: Bytes,
    upstream: Upstream,
    metrics: &ConnectionMetrics,
    cut: impl Future<Output = ()>,
) -> io::Result<()> {
    match upstream {
        Upstream::Tunnel(tunnel) => relay_out(client, first, tunnel, metrics, cut).await,
        Upstream::Secured(secured) => relay_to(client, first, *secured, metrics, cut).await,
        Upstream::Tcp(stream) => relay_plain(client, first, stream, metrics, cut).await,
    }
}

async fn relay_out(
    mut client: TcpStream,
    first: Bytes,
    mut tunnel: Tunnel,
    metrics: &ConnectionMetrics,
    cut: impl Future<Output = ()>,
) -> io::Result<()> {
    let (reader, writer) = client.split();
    let up = to_tunnel(reader, first, &mut tunnel.send, &metrics.read);
    let down = from_tunnel(&mut tunnel.receive, writer, &metrics.written);
    let ended = both(up, down, cut).await;
    if ended.is_err() {
        tunnel.send.reset();
        net::reset(client);
    }
    ended
}

/// The accepted side is a stream of a peer, the upstream an application. `first` has been read from the stream already.
pub async fn relay_in(
    mut tunnel: Tunnel,
    first: Bytes,
    mut application: TcpStream,
    metrics: &ConnectionMetrics,
    cut: impl Future<Output = ()>,
) -> io::Result<()> {
    let (reader, mut writer) = application.split();
    let up = async {
        metrics.read.inc_by(first.len() as u64);
        tokio::io::AsyncWriteExt::write_all(&mut writer, &first).await?;
        from_tunnel(&mut tunnel.receive, writer, &metrics.read).await
    };
    let down = to_tunnel(reader, Bytes::new(), &mut tunnel.send, &metrics.written);
    let ended = both(up, down, cut).await;
    if ended.is_err() {
        tunnel.send.reset();
        net::reset(application);
    }
    ended
}

/// The accepted side is one TLS connection for one opaque connection. `first` has been read from it already.
pub async fn relay_secured(
    mut client: TlsStream<tls::Socket>,
    first: Bytes,
    mut application: TcpStream,
    metrics: &ConnectionMetrics,
    cut: impl Future<Output = ()>,
) -> io::Result<()> {
    let (client_reader, client_writer) = tokio::io::split(&mut client);
    let (application_reader, application_writer) = application.split();
    let up = copy(client_reader, first, application_writer, &metrics.read);
    let down = copy(
        application_reader,
        Bytes::new(),
        client_writer,
        &metrics.written,
    );
    let ended = both(up, down, cut).await;
    if ended.is_err() {
        net::reset(client.into_inner().0.into_inner());
        net::reset(application);
    }
    ended
}

async fn relay_to(
    mut client: TcpStream,
    first: Bytes,
    mut upstream: SecuredStream,
    metrics: &ConnectionMetrics,
    cut: impl Future<Output = ()>,
) -> io::Result<()> {
    let (client_reader, client_writer) = client.split();
    let (reader, writer) = tokio::io::split(&mut upstream.tls);
    let up = copy(client_reader, first, writer, &metrics.read);
    let down = copy(reader, upstream.said, client_writer, &metrics.written);
    let ended = both(up, down, cut).await;
    if ended.is_err() {
        net::reset(client);
        net::reset(upstream.tls.into_inner().0.into_inner());
    }
    ended
}

async fn relay_plain(
    mut client: TcpStream,
    first: Bytes,
    mut upstream: TcpStream,
    metrics: &ConnectionMetrics,
    cut: impl Future<Output = ()>,
) -> io::Result<()> {
    let (client_reader, client_writer) = client.split();
    let (upstream_reader, upstream_writer) = upstream.split();
    let up = to_tcp(client_reader, first, upstream_writer, &metrics.read);
    let down = to_tcp(
        upstream_reader,
        Bytes::new(),
        client_writer,
        &metrics.written,
    );
    let ended = both(up, down, cut).await;
    if ended.is_err() {
        net::reset(client);
        net::reset(upstream);
    }
    ended
}

/// Both directions to their ends; the first failure, or `cut`, ends both.
async fn both(
    up: impl Future<Output = io::Result<()>>,
    down: impl Future<Output = io::Result<()>>,
    cut: impl Future<Output = ()>,
) -> io::Result<()> {
    tokio::select! {
        biased;
        ended = async { tokio::try_join!(up, down) } => ended.map(|_| ()),
        () = cut => Err(io::Error::new(io::ErrorKind::PermissionDenied, "no longer allowed")),
    }
}
