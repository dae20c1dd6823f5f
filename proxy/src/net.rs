//! Sockets: accepting, where a redirected connection was going, connecting, cutting.

mod owner;
mod prefixed;

pub use owner::{Owner, Owners};
pub use prefixed::Prefixed;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Connections that the kernel keeps while the proxy is busy: a burst of a few thousand clients, not more than the
/// kernel's own limit allows anyway.
const BACKLOG: i32 = 4_096;
/// How long to wait when the process or the machine has no descriptors left. Accepting fails at once until one is
/// closed, so without a pause the proxy would spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// A silent peer is asked after this, so that one whose host is gone does not hold a connection for ever.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// And then this often.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The kernel said no.
    #[error("cannot connect to {address}: {kind}")]
    Refused {
        /// Who was called.
        address: SocketAddr,
        /// What the kernel said.
        kind: io::ErrorKind,
    },
    /// It was there for a moment.
    #[error("the connection was gone at once: {0}")]
    Gone(io::ErrorKind),
    /// There was no address to try.
    #[error("there is no address to connect to")]
    Nowhere,
    /// Nobody answered in time.
    #[error("no answer from {address} within {limit:?}")]
    TimedOut {
        /// Who was called.
        address: SocketAddr,
        /// How long it was waited.
        limit: Duration,
    },
}

/// Listens. With `shared` several sockets may listen on one address, and the kernel spreads connections over them.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // v4 has a listener of its own; a dual socket would show v4 peers as mapped addresses.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The next connection. Failures of one connection are passed over; a lack of descriptors is waited out.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        let error = match listener.accept().await {
            Ok((stream, peer)) => match tune(&stream) {
                Ok(()) => return (stream, peer),
                Err(error) => error,
            },
            Err(error) => error,
        };
        not_accepted(error).await;
    }
}

/// The same at a Unix socket.
pub async fn accept_local(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => not_accepted(error).await,
        }
    }
}

async fn not_accepted(error: io::Error) {
    if belongs_to_one_connection(&error) {
        tracing::debug!(%error, "a connection was gone before it was accepted");
    } else {
        tracing::warn!(%error, "cannot accept; raise the limit of open files if this goes on");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

/// Errors that `accept` reports but that say nothing about the listener.
fn belongs_to_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::InvalidInput
            | Kind::NotConnected
            | Kind::TimedOut
            | Kind::Interrupted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    )
}

/// Where the connection was going before it was redirected; its local address where it was not.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    let socket = SockRef::from(stream);
    let original = if local.is_ipv6() {
        socket.original_dst_v6()
    } else {
        socket.original_dst_v4()
    };
    // Without connection tracking, or without an entry, there was no redirection.
    Ok(original
        .ok()
        .and_then(|address| address.as_socket())
        .unwrap_or(local))
}

/// Connects, within `limit`.
pub async fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectError> {
    let refused = |error: io::Error| ConnectError::Refused {
        address,
        kind: error.kind(),
    };
    let stream = tokio::time::timeout(limit, TcpStream::connect(address))
        .await
        .map_err(|_| ConnectError::TimedOut { address, limit })?
        .map_err(refused)?;
    tune(&stream).map_err(refused)?;
    Ok(stream)
}

/// Connects to the first of `addresses` that does not refuse, each within `limit`.
pub async fn connect_any(
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::Nowhere;
    for address in addresses {
        match connect(*address, limit).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Small messages leave at once, and a dead peer is found.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Ends the connection by a reset: the peer must not take what it got for a whole.
pub fn reset(stream: TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection was gone before it could be reset");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = listener.local_addr().unwrap();
        let client = connect(address, Duration::from_secs(5)).await.unwrap();
        (client, accept(&listener).await.0)
    }

    #[tokio::test]
    async fn a_connection_that_was_not_redirected_has_its_local_address() {
        let (_client, server) = pair().await;
        assert_eq!(
            original_destination(&server).unwrap(),
            server.local_addr().unwrap()
        );
    }

    #[tokio::test]
    async fn a_reset_is_seen_as_a_reset() {
        let (mut client, server) = pair().await;
        reset(server);
        let error = client.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_by_name() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = connect(address, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot connect to {address}: connection refused")
        );
    }
}
