//! The outbound listener of a host with several workloads: a connection belongs to the workload whose user has opened it.

use super::{Gate, Outbound};
use crate::net;
use crate::shared::{Process, accept_all};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

/// The outbound side of one worker, for several workloads.
#[derive(Debug)]
pub struct Departures {
    process: Process,
    gate: Arc<Gate>,
    /// By their places.
    workloads: Vec<Arc<Outbound>>,
}

impl Departures {
    /// Serves nothing yet.
    pub fn new(process: Process, gate: Arc<Gate>, workloads: Vec<Arc<Outbound>>) -> Arc<Self> {
        Arc::new(Self {
            process,
            gate,
            workloads,
        })
    }

    /// Serves redirected connections that `listener` accepts, until the drain begins.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let (tasks, work) = (self.process.tasks.clone(), self.process.work.clone());
        let departures = self.clone();
        accept_all(tasks, work, listener, move |stream| {
            departures.clone().serve(stream)
        })
        .await;
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let destination = match net::original_destination(&stream) {
            Ok(destination) => destination,
            Err(error) => {
                return tracing::debug!(%error, "a connection was gone before it was looked at");
            }
        };
        // Held as long as the connection is under way.
        let Some((place, _taken)) = self.gate.caller(&stream, destination) else {
            return net::reset(stream);
        };
        match self.workloads.get(place) {
            Some(outbound) => outbound.clone().serve_to(stream, destination).await,
            None => net::reset(stream),
        }
    }
}
