//! The life of a connection from this workload: where it goes, what it speaks, which route and endpoint, and on to the peer.

mod binding;
mod claims;
mod connection;
mod departures;
mod gate;
mod opaque;
mod request;
mod target;
mod upstreams;

pub use claims::Claims;
pub use departures::Departures;
pub use gate::Gate;

use crate::metrics::Direction;
use crate::net;
use crate::shared::{Shared, accept_all};
use crate::snapshot::{Locality, Resolution};
use binding::Bindings;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// How long the control plane may take to say what an unknown destination is. An application's own connect timeout is
/// longer, and a destination that is known needs no answer.
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);
/// To a destination outside the mesh: the kernel would try for two minutes.
const EGRESS_CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// What the configuration says of calls out.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Whether destinations outside the mesh may be reached.
    pub egress: bool,
    /// Addresses that exist only inside the mesh: never dialled as they are.
    pub virtual_ranges: Vec<ipnet::IpNet>,
    /// Where the proxy itself listens: a connection there was not redirected, and leads nowhere.
    pub own: Vec<SocketAddr>,
    /// Where this workload stands.
    pub locality: Locality,
    /// Where the host has several workloads: what tells their callers apart, and which of them this is.
    pub gate: Option<(Arc<Gate>, usize)>,
}

/// The outbound side of one worker.
#[derive(Debug)]
pub struct Outbound {
    shared: Shared,
    settings: Settings,
    bindings: Bindings,
}

impl Outbound {
    /// Serves nothing yet.
    pub fn new(shared: Shared, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            bindings: Bindings::new(shared.clone(), settings.locality.clone()),
            shared,
            settings,
        })
    }

    /// Serves redirected connections that `listener` accepts, until the drain begins.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let (tasks, work) = (self.shared.tasks.clone(), self.shared.work.clone());
        let outbound = self.clone();
        accept_all(tasks, work, listener, move |stream| {
            outbound.clone().serve(stream)
        })
        .await;
    }

    /// One redirected connection, from its first byte to its last.
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        match net::original_destination(&stream) {
            Ok(destination) => self.serve_to(stream, destination).await,
            Err(error) => tracing::debug!(%error, "a connection was gone before it was looked at"),
        }
    }

    /// One connection that was going to `destination`.
    async fn serve_to(self: Arc<Self>, stream: TcpStream, destination: SocketAddr) {
        if self.owns(destination) {
            self.shared.metrics.error(Direction::Outbound, "", "loop");
            tracing::warn!(%destination, "refused a connection to the proxy's own listener; only redirected connections have a destination");
            return net::reset(stream);
        }
        let name = format!("out/{destination}");
        match self.resolve(&name).await {
            Resolution::Found(listener) => {
                connection::serve(self, stream, listener.name.clone()).await
            }
            Resolution::Missing => Box::pin(self.leave_mesh(stream, destination)).await,
            Resolution::Unavailable => self.unknown(stream, &name),
        }
    }

    /// One connection to an explicit listener, which leads to `target`.
    async fn serve_explicit(self: Arc<Self>, stream: TcpStream, target: Arc<str>) {
        if let Some((gate, own)) = &self.settings.gate
            && !gate.admits(*own, &stream)
        {
            return net::reset(stream);
        }
        match self.resolve(&target).await {
            Resolution::Found(listener) => {
                connection::serve(self, stream, listener.name.clone()).await
            }
            Resolution::Missing | Resolution::Unavailable => self.unknown(stream, &target),
        }
    }

    async fn resolve(&self, name: &str) -> Resolution {
        self.shared
            .directory
            .resolve(name, Instant::now() + RESOLVE_LIMIT)
            .await
    }

    fn unknown(&self, stream: TcpStream, name: &str) {
        tracing::debug!(name, "no such destination, or nobody could say");
        self.shared
            .metrics
            .error(Direction::Outbound, "", "no_destination");
        net::reset(stream);
    }

    /// A destination that the mesh does not know: the egress policy decides.
    async fn leave_mesh(&self, stream: TcpStream, destination: SocketAddr) {
        let inside = self
            .settings
            .virtual_ranges
            .iter()
            .any(|range| range.contains(&destination.ip()));
        if inside || !self.settings.egress {
            let reason = if inside {
                "no_destination"
            } else {
                "egress_denied"
            };
            tracing::debug!(%destination, reason, "refused");
            self.shared.metrics.error(Direction::Outbound, "", reason);
            return net::reset(stream);
        }
        match net::connect(destination, EGRESS_CONNECT_LIMIT).await {
            Ok(upstream) => opaque::pass(&self.shared, stream, upstream).await,
            Err(error) => {
                tracing::debug!(%error, "no connection out of the mesh");
                net::reset(stream);
            }
        }
    }

    fn owns(&self, address: SocketAddr) -> bool {
        let same = |own: IpAddr| own == address.ip() || own.is_unspecified();
        self.settings
            .own
            .iter()
            .any(|own| own.port() == address.port() && same(own.ip()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::pair::{Proxy, called, listener};
    use crate::testing::{Authority, pair};

    /// What the task of a connection that is silent, or speaks HTTP/1, may take. Ten thousand of them are 25 MB.
    const TASK: usize = 2_500;

    #[tokio::test]
    async fn a_connections_task_is_small() {
        let authority = Authority::new();
        let snapshot = called(pair::free(), crate::snapshot::Protocol::Http1, vec![]);
        let proxy = Proxy::new(&authority, "web", snapshot);
        let outbound = Outbound::new(proxy.shared.clone(), Settings::default());
        let accepting = listener();
        let stream = TcpStream::connect(accepting.local_addr().unwrap())
            .await
            .unwrap();
        let size = std::mem::size_of_val(&outbound.serve(stream));
        assert!(size <= TASK, "{size} bytes");
    }
}
