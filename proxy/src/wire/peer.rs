//! One address that speaks HTTP/2: its connections, opened as they are needed and shared by all streams.

use super::connection::{Connection, StreamLease};
use super::secured::Secured;
use crate::net::{self, ConnectError};
use crate::supervise::Tasks;
use crate::tls::{Mesh, TlsError};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Connections to one address: with 256 streams on each, more only help an attacker.
const CONNECTIONS: usize = 16;
/// Why a stream cannot be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No TLS. Never answered by trying without.
    #[error("cannot secure the connection to {address}")]
    Tls {
        /// Who was called.
        address: SocketAddr,
        /// What failed.
        #[source]
        cause: TlsError,
    },
    /// This workload has no certificate yet.
    #[error("this workload has no certificate yet")]
    NoCertificate,
    /// No HTTP/2.
    #[error("{address} does not speak HTTP/2: {reason}")]
    Http2 {
        /// Who was called.
        address: SocketAddr,
        /// What failed.
        reason: String,
    },
    /// All connections are full.
    #[error("all {CONNECTIONS} connections to this endpoint are full")]
    Full,
}

/// One address.
#[derive(Debug)]
pub struct Peer {
    dial: Dial,
    tasks: Tasks,
    connections: Mutex<Vec<Open>>,
    /// Whoever holds it opens a connection; the others wait and look again. Inside: when the last attempt ended how.
    opening: tokio::sync::Mutex<Option<(Instant, DialError)>>,
}

#[derive(Debug)]
struct Open {
    connection: Arc<Connection>,
    /// The certificate it was opened with: a renewed one moves new streams to a new connection.
    mesh: Option<Arc<Mesh>>,
}

#[derive(Debug)]
enum Dial {
    Plain(Vec<SocketAddr>),
    Secured(Secured),
}

impl Peer {
    /// A meshed endpoint.
    pub fn secured(way: Secured, tasks: Tasks) -> Self {
        Self::new(Dial::Secured(way), tasks)
    }

    /// An application, or an endpoint outside the mesh. The next address is tried where one refuses.
    pub fn plain(addresses: Vec<SocketAddr>, tasks: Tasks) -> Self {
        Self::new(Dial::Plain(addresses), tasks)
    }

    fn new(dial: Dial, tasks: Tasks) -> Self {
        Self {
            dial,
            tasks,
            connections: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// The right to one stream, on a connection that is there or a new one. `limit` is for TCP and for TLS, each.
    pub async fn lease(&self, limit: Duration) -> Result<StreamLease, DialError> {
        match self.ready() {
            Some(lease) => Ok(lease),
            // Boxed: a handshake's state is large, and would be a part of every request's.
            None => Box::pin(self.wait(limit)).await,
        }
    }

    async fn wait(&self, limit: Duration) -> Result<StreamLease, DialError> {
        let asked = Instant::now();
        let mut last = self.opening.lock().await;
        if let Some(lease) = self.ready() {
            return Ok(lease);
        }
        // Whoever waited while an attempt failed gets its error, else a dead address would be dialled once for each.
        if let Some((_, error)) = last.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(error.clone());
        }
        match self.open(limit).await {
            Ok(lease) => {
                *last = None;
                Ok(lease)
            }
            Err(error) => {
                *last = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// The right to one stream on a connection that is there.
    pub fn ready(&self) -> Option<StreamLease> {
        let now = self.dial.mesh_now();
        let same = |mesh: &Option<Arc<Mesh>>| match (mesh, &now) {
            (Some(mesh), Some(now)) => Arc::ptr_eq(mesh, now),
            (None, None) => true,
            // The certificate cannot be seen now; what was opened with one stays good.
            (Some(_), None) => true,
            (None, Some(_)) => false,
        };
        let mut connections = self.connections();
        connections.retain(|open| !open.connection.closed());
        connections
            .iter()
            .filter(|open| same(&open.mesh))
            .find_map(|open| open.connection.lease())
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Open>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, limit: Duration) -> Result<StreamLease, DialError> {
        if self.connections().len() >= CONNECTIONS {
            return Err(DialError::Full);
        }
        let broken = |address: SocketAddr| {
            move |error: h2::Error| DialError::Http2 {
                address,
                reason: error.to_string(),
            }
        };
        let (connection, mesh) = match &self.dial {
            Dial::Plain(addresses) => {
                let stream = net::connect_any(addresses, limit).await?;
                let address = stream
                    .peer_addr()
                    .map_err(|error| ConnectError::Gone(error.kind()))?;
                let opened = Connection::open(stream, &self.tasks).await;
                (opened.map_err(broken(address))?, None)
            }
            Dial::Secured(way) => {
                let (tls, mesh) = way.dial(limit).await?;
                let opened = Connection::open(tls, &self.tasks).await;
                (opened.map_err(broken(way.address()))?, Some(mesh))
            }
        };
        let lease = connection.lease().ok_or(DialError::Full)?;
        self.connections().push(Open { connection, mesh });
        Ok(lease)
    }
}

impl Dial {
    fn mesh_now(&self) -> Option<Arc<Mesh>> {
        match self {
            Self::Plain(_) => None,
            Self::Secured(way) => way.mesh(),
        }
    }
}
