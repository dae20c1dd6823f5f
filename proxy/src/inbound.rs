//! The life of a connection towards this workload: who it is from, what it may do, and on to the application.
//!
//! The mesh port takes both what peers send there, mutual TLS with `maille/1` in it, and what was redirected from an
//! application's port, which is unmeshed. The original destination tells which.

mod arrivals;
mod foreign;
mod mesh;
mod plain;
mod port;
mod request;

pub use arrivals::Arrivals;

use crate::http::Application;
use crate::net;
use crate::shared::{Shared, accept_all};
use port::Applications;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// An application on the same host answers at once or is not there; a second covers one that is swapped out.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Why a peer is refused that names a port of another workload, or of none, than the one that has proved itself to it.
const ANOTHER_WORKLOAD: &str = "another_workload";

/// What the configuration says of the application's side.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The workload's ports, each with its application's address where that is not the port itself.
    pub applications: HashMap<u16, Option<SocketAddr>>,
    /// Where the proxy itself listens: never an application.
    pub own: Vec<SocketAddr>,
    /// Whether the host has other workloads: then ports that are not this one's are not reached through it.
    pub several: bool,
}

/// How a connection came to the mesh port.
enum Way {
    /// From a peer, which reached this host at this address.
    Mesh(IpAddr),
    /// It was going to an application's port.
    Redirected(SocketAddr),
}

impl Way {
    fn of(stream: &TcpStream, own: &[SocketAddr]) -> io::Result<Self> {
        let local = stream.local_addr()?;
        let original = net::original_destination(stream)?;
        Ok(match local == original || owns(own, original) {
            true => Self::Mesh(local.ip()),
            false => Self::Redirected(original),
        })
    }
}

/// Whether the proxy listens there itself.
fn owns(own: &[SocketAddr], address: SocketAddr) -> bool {
    own.iter().any(|own| {
        own.port() == address.port() && (own.ip() == address.ip() || own.ip().is_unspecified())
    })
}

/// The inbound side of one worker.
#[derive(Debug)]
pub struct Inbound {
    shared: Shared,
    settings: Settings,
    applications: Applications,
}

impl Inbound {
    /// Serves nothing yet.
    pub fn new(shared: Shared, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            applications: Applications::new(CONNECT_LIMIT, shared.tasks.clone()),
            shared,
            settings,
        })
    }

    /// Serves what `listener` accepts, until the drain begins.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let (tasks, work) = (self.shared.tasks.clone(), self.shared.work.clone());
        let inbound = self.clone();
        accept_all(tasks, work, listener, move |stream| {
            inbound.clone().serve(stream)
        })
        .await;
    }

    /// One connection, from its first byte to its last.
    pub async fn serve(self: Arc<Self>, stream: TcpStream) {
        match Way::of(&stream, &self.settings.own) {
            Ok(Way::Mesh(local)) => mesh::serve(self, stream, local).await,
            Ok(Way::Redirected(original)) => self.serve_redirected(stream, original).await,
            Err(error) => tracing::debug!(%error, "a connection was gone before it was looked at"),
        }
    }

    /// One connection that was going to `original`, an application's port: it is not from the mesh.
    pub async fn serve_redirected(self: Arc<Self>, stream: TcpStream, original: SocketAddr) {
        plain::serve(self, stream, original).await;
    }

    /// Whether peers may reach a port through this workload at all.
    fn serves(&self, port: u16) -> bool {
        !self.settings.several || self.settings.applications.contains_key(&port)
    }

    /// The application behind `port`, for a peer that reached this host at `local`. None: nothing that peers may reach.
    fn application(&self, port: u16, local: IpAddr) -> Option<Arc<Application>> {
        let direct = SocketAddr::new(local, port);
        let addresses = match self.settings.applications.get(&port) {
            Some(Some(address)) => vec![*address],
            // An application of the workload may listen on the loopback only. Of any other port peers get no more than
            // they could reach without the proxy.
            Some(None) => {
                let loopback: [IpAddr; 2] =
                    [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
                let [first, second] = if local.is_ipv6() {
                    [loopback[1], loopback[0]]
                } else {
                    loopback
                };
                [first, local, second]
                    .map(|address| SocketAddr::new(address, port))
                    .into()
            }
            None => vec![direct],
        };
        let reachable: Vec<_> = addresses
            .into_iter()
            .filter(|address| !owns(&self.settings.own, *address))
            .collect();
        (!reachable.is_empty()).then(|| self.applications.get(reachable))
    }
}
