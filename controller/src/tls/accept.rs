//! Accepting TLS connections: bounded handshakes, a rate, and the caller's certificate beside each request.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::pki::{self, Facts};
use crate::supervise::Stage;

/// How long a handshake may take. A peer across an ocean needs well under a second.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that have shaken hands and wait for the server to take them.
const READY: usize = 16;
/// After a failed accept (no file descriptors, most likely): without a pause it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections may come.
#[derive(Debug, Clone, Copy)]
pub struct AcceptLimits {
    /// Handshakes at once: each costs CPU, and ten thousand at once would starve everything else.
    pub handshakes: usize,
    /// New connections a second, on the long run.
    pub per_second: u32,
    /// New connections that may come at once after a quiet time.
    pub burst: u32,
}

/// Who is at the other end. Stands in the extensions of every request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Where the connection comes from.
    pub remote: Option<SocketAddr>,
    /// The client's certificates, the leaf first; empty where it presented none.
    pub chain: Arc<[CertificateDer<'static>]>,
    /// What the leaf says.
    pub leaf: Option<Arc<Facts>>,
    /// The user at the other end of a local socket.
    pub local_user: Option<u32>,
}

impl Caller {
    /// Somebody at a local socket, by the kernel's word.
    pub fn local(user: u32) -> Self {
        Self {
            remote: None,
            chain: Arc::from([]),
            leaf: None,
            local_user: Some(user),
        }
    }

    /// Who it is, for the log: the name proved, and where from.
    pub fn describe(&self) -> String {
        let name = match (self.spiffe_id(), self.local_user) {
            (Some(id), _) => id.to_owned(),
            (None, Some(user)) => format!("local user {user}"),
            (None, None) => "nobody known".to_owned(),
        };
        match self.remote {
            Some(remote) => format!("{name} at {remote}"),
            None => name,
        }
    }

    /// The SPIFFE id that the client proved.
    pub fn spiffe_id(&self) -> Option<&str> {
        self.leaf.as_deref().and_then(Facts::spiffe_id)
    }
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    io: TlsStream<TcpStream>,
    caller: Caller,
}

impl Connection {
    /// Who is at the other end.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

/// Accepts until the stage stops. The stream ends then.
pub fn accept(
    stage: &Stage,
    name: &'static str,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limits: AcceptLimits,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(READY);
    let task = run(
        stage.clone(),
        name,
        listener,
        TlsAcceptor::from(config),
        limits,
        ready,
    );
    stage.vital(&format!("{name} accept"), task);
    ReceiverStream::new(connections)
}

async fn run(
    stage: Stage,
    name: &'static str,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: AcceptLimits,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let slots = Arc::new(Semaphore::new(limits.handshakes));
    let mut bucket = Bucket::new(limits);
    let stopping = stage.stopping();
    loop {
        let next = async {
            bucket.take().await;
            let slot = Arc::clone(&slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = stopping.cancelled() => return,
            next = next => next,
        };
        let (socket, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(failure) => {
                warn!(port = name, %failure, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, ready, stopping) = (acceptor.clone(), ready.clone(), stopping.clone());
        stage.task("handshake", async move {
            let shaken = tokio::select! {
                () = stopping.cancelled() => return,
                shaken = handshake(acceptor, socket, remote) => shaken,
            };
            drop(slot);
            match shaken {
                // An error means that the server has stopped taking connections.
                Ok(connection) => drop(ready.send(Ok(connection)).await),
                Err(failure) => debug!(port = name, %remote, %failure, "a handshake failed"),
            }
        });
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    remote: SocketAddr,
) -> io::Result<Connection> {
    socket.set_nodelay(true)?;
    let io = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await??;
    let chain: Arc<[CertificateDer<'static>]> = io
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .into();
    let leaf = match chain.first() {
        Some(leaf) => Some(Arc::new(pki::parse(leaf).map_err(io::Error::other)?)),
        None => None,
    };
    Ok(Connection {
        io,
        caller: Caller {
            remote: Some(remote),
            chain,
            leaf,
            local_user: None,
        },
    })
}

/// A token bucket over the clock.
struct Bucket {
    per_second: f64,
    burst: f64,
    filled: f64,
    at: Instant,
}

impl Bucket {
    fn new(limits: AcceptLimits) -> Self {
        let burst = f64::from(limits.burst.max(1));
        Self {
            per_second: f64::from(limits.per_second.max(1)),
            burst,
            filled: burst,
            at: Instant::now(),
        }
    }

    /// How long to wait for the next token at `now`, taking it.
    fn delay(&mut self, now: Instant) -> Duration {
        let passed = now.duration_since(self.at).as_secs_f64();
        self.filled = (self.filled + passed * self.per_second).min(self.burst) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.filled / self.per_second).max(0.0))
    }

    async fn take(&mut self) {
        let delay = self.delay(Instant::now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_bucket_lets_a_burst_through_and_then_the_rate() {
        let mut bucket = Bucket::new(AcceptLimits {
            handshakes: 1,
            per_second: 10,
            burst: 3,
        });
        let now = bucket.at;
        let delays: Vec<u128> = (0..5).map(|_| bucket.delay(now).as_millis()).collect();
        assert_eq!(vec![0, 0, 0, 100, 200], delays);
        assert_eq!(0, bucket.delay(now + Duration::from_secs(1)).as_millis());
    }
}
