//! The mesh port of a host with several workloads: what arrives goes to the workload that has the port it is for.

use super::{Inbound, Way, mesh};
use crate::metrics::Direction;
use crate::net;
use crate::shared::{Process, accept_all};
use crate::tls;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

/// Why a connection is refused whose port no workload has.
const NO_WORKLOAD: &str = "no_workload";

/// The inbound side of one worker, for several workloads.
#[derive(Debug)]
pub struct Arrivals {
    /// What is nobody's: counted without a workload's name.
    process: Process,
    own: Vec<SocketAddr>,
    owners: HashMap<u16, Arc<Inbound>>,
}

impl Arrivals {
    /// Serves nothing yet. No two of `workloads` have a port in common: the configuration has seen to that.
    pub fn new(process: Process, own: Vec<SocketAddr>, workloads: &[Arc<Inbound>]) -> Arc<Self> {
        let ports = |inbound: &Arc<Inbound>| {
            let ports = inbound.settings.applications.keys();
            ports
                .map(|port| (*port, inbound.clone()))
                .collect::<Vec<_>>()
        };
        Arc::new(Self {
            process,
            own,
            owners: workloads.iter().flat_map(ports).collect(),
        })
    }

    /// Serves what `listener` accepts, until the drain begins.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let (tasks, work) = (self.process.tasks.clone(), self.process.work.clone());
        let arrivals = self.clone();
        accept_all(tasks, work, listener, move |stream| {
            arrivals.clone().serve(stream)
        })
        .await;
    }

    /// One connection, from its first byte to its last.
    pub async fn serve(self: Arc<Self>, stream: TcpStream) {
        match Way::of(&stream, &self.own) {
            Ok(Way::Mesh(local)) => self.serve_peer(stream, local).await,
            Ok(Way::Redirected(original)) => self.serve_redirected(stream, original).await,
            Err(error) => tracing::debug!(%error, "a connection was gone before it was looked at"),
        }
    }

    /// A peer says first for which port it comes: so it is told by the right certificate who answers.
    async fn serve_peer(&self, stream: TcpStream, local: IpAddr) {
        let greeting = match tls::greeted(stream).await {
            Ok(greeting) => greeting,
            Err(error) => {
                tracing::debug!(%error, "a peer was refused");
                return self.process.metrics.handshake("server", "failed");
            }
        };
        match greeting.port.and_then(|port| self.owners.get(&port)) {
            Some(inbound) => mesh::serve_greeted(inbound.clone(), greeting, local).await,
            None => self.refuse(greeting.port),
        }
    }

    async fn serve_redirected(&self, stream: TcpStream, original: SocketAddr) {
        match self.owners.get(&original.port()) {
            Some(inbound) => inbound.clone().serve_redirected(stream, original).await,
            None => {
                self.refuse(Some(original.port()));
                net::reset(stream);
            }
        }
    }

    fn refuse(&self, port: Option<u16>) {
        tracing::debug!(port, "refused a connection for a port that no workload has");
        let metrics = &self.process.metrics;
        metrics.error(Direction::Inbound, "", NO_WORKLOAD);
    }
}
