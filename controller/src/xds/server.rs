//! xDS over gRPC, in deltas and by the state of the world, all types on one stream or each on its own: `open` admits a
//! stream, `stream` serves it.
//!
//! The response side is written by hand, as an HTTP body of shared bytes: a resource that goes to a thousand streams is
//! encoded once, and a large one is not even copied.

pub(super) mod admission;
mod frames;
mod gate;
mod metrics;
pub(super) mod open;
mod preview;
mod questions;
mod request;
mod service;
mod stream;
mod told;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;
use xds_api::envoy::service::status::v3::ClientConfig;
use xds_api::maille::v1::{Preview, Proxy};
use xds_api::mesh_version::MeshVersion;

use self::gate::Gate;
use self::metrics::XdsMetrics;
use self::questions::Asker;
use super::cache::{Cache, Published};
use super::hashes;
use super::roster::Roster;
use crate::agreement::Agreement;
use crate::model::{Command, State};
use crate::supervise::Stage;
use crate::telemetry::Metrics;

/// The pause between two published states: a first change goes out at once, a storm of them is taken together.
const PUBLISH_PAUSE: Duration = Duration::from_millis(10);

/// The xDS side of a controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Xds {
    shared: Arc<Shared>,
}

/// What is known of all resources at a mesh index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hashes {
    /// The hashes.
    Made(BTreeMap<String, String>),
    /// The xDS side has not come so far.
    NotYet,
    /// It has moved on.
    Past,
}

/// What every stream shares.
#[derive(Debug)]
struct Shared {
    stage: Stage,
    cache: Arc<Cache>,
    published: watch::Sender<Arc<Published>>,
    states: watch::Receiver<Arc<State>>,
    asker: Asker,
    controller: String,
    roster: Arc<Roster>,
    gate: Gate,
    metrics: Arc<XdsMetrics>,
    /// The hashes that were made last, and of what.
    hashes: Mutex<Option<(MeshVersion, BTreeMap<String, String>)>>,
}

impl Xds {
    /// Begins to follow the agreed state. `controller` is this controller's name.
    pub fn start(
        stage: &Stage,
        agreement: Arc<dyn Agreement>,
        controller: &str,
        metrics: &Metrics,
    ) -> Self {
        let mut states = agreement.state();
        let cache = Arc::new(Cache::new(&states.borrow_and_update()));
        let (gate, gate_task) = Gate::new(agreement, stage.stopping());
        let shared = Arc::new(Shared {
            stage: stage.clone(),
            published: watch::Sender::new(cache.published()),
            cache,
            states: states.clone(),
            asker: Asker::new(),
            controller: controller.to_owned(),
            roster: Arc::new(Roster::new(controller)),
            gate,
            metrics: Arc::new(XdsMetrics::new(metrics)),
            hashes: Mutex::default(),
        });
        stage.vital("xds read index", gate_task);
        stage.vital(
            "xds publish",
            publish(shared.clone(), states, stage.stopping()),
        );
        Self { shared }
    }

    /// Adds the gRPC services to a server. Their requests must carry a [`crate::tls::Caller`] and a [`crate::tls::Link`] in their extensions.
    pub fn add_to(&self, routes: Routes) -> Routes {
        service::add_to(routes, &self.shared)
    }

    /// Every client that has a stream at this controller.
    pub fn proxies(&self) -> Vec<Proxy> {
        self.shared.roster.proxies()
    }

    /// What a command would send to the clients of this controller, tried on the state that is served, once that is of this mesh index or later.
    pub async fn preview(&self, command: Command, index: u64) -> Result<Preview, Status> {
        preview::preview(&self.shared, command, index).await
    }

    /// What the clients of this controller were sent and said to it, for those whose node (`<namespace>/<workload>`) is chosen, with the resources themselves
    /// if `contents`; and how many streams did not answer.
    pub async fn client_status(
        &self,
        choice: impl Fn(&str) -> bool + Send + Sync + 'static,
        contents: bool,
    ) -> Result<(Vec<ClientConfig>, u32), Status> {
        told::client_status(&self.shared, Box::new(choice), contents).await
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.shared.roster.len()
    }

    /// Sends the clients of so many streams to other controllers, those first that have been here longest.
    pub fn send_away(&self, count: usize) {
        let sent = self.shared.roster.send_away(count);
        self.shared.metrics.moved.inc_by(sent as u64);
    }

    /// SHA-256 over name and version of every resource, by dialect and type (`CDS`, `envoy CDS`, …), hexadecimal, at a mesh index. Translates what nobody
    /// has asked for yet, once an index and one call at a time: call it off the async threads.
    pub fn resource_hashes(&self, wanted: u64) -> Hashes {
        let mut made = self
            .shared
            .hashes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let published = self.shared.cache.published();
        match published.version.index.cmp(&wanted) {
            Ordering::Less => return Hashes::NotYet,
            Ordering::Greater => return Hashes::Past,
            Ordering::Equal => {}
        }
        match &*made {
            Some((version, hashes)) if *version == published.version => {
                Hashes::Made(hashes.clone())
            }
            _ => {
                let hashes = hashes::resource_hashes(&self.shared.cache, &published);
                *made = Some((published.version, hashes.clone()));
                Hashes::Made(hashes)
            }
        }
    }
}

/// Passes new states on to the streams.
async fn publish(
    shared: Arc<Shared>,
    mut states: watch::Receiver<Arc<State>>,
    stopping: CancellationToken,
) {
    loop {
        let state = states.borrow_and_update().clone();
        if let Some(published) = shared.cache.publish(&state) {
            shared.published.send_replace(published);
            tokio::time::sleep(PUBLISH_PAUSE).await;
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = states.changed() => if changed.is_err() { return },
        }
    }
}
