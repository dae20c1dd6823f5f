//! The running member: openraft over the store, its clocks, what it publishes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::{Notify, watch};

use super::RaftError;
use super::log_store::LogStore;
use super::machine::Machine;
use super::network::{Network, Purpose};
use super::settings::Settings;
use super::types::{Membership, NodeId, Peer, Types};
use crate::model::State;
use crate::store::StoreError;
use crate::store::directory::Directory;
use crate::store::log::{LogEngine, LogOptions, path_in};
use crate::store::snapshot::Snapshots;
use crate::store::table::Tables;

pub(super) type Engine = openraft::Raft<Types, Machine>;
pub(super) type Metrics = openraft::RaftMetrics<Types>;

/// What stands on the disk, opened and verified.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) log: Arc<dyn LogEngine>,
    pub(super) tables: Arc<Tables>,
    pub(super) snapshots: Snapshots,
}

/// Who leads, as this controller believes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The leader's node id.
    pub leader: Option<NodeId>,
    /// Whether it is this controller.
    pub is_leader: bool,
    /// The election term.
    pub term: u64,
}

/// A member that runs.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) engine: Engine,
    pub(super) node: NodeId,
    pub(super) directory: String,
    pub(super) network: Network,
    pub(super) stores: Stores,
    /// Until then votes are withheld: a vote that this node gave before it restarted may still be a leader's lease.
    pub(super) votes_from: Instant,
    /// When a leader was last heard.
    heard: Mutex<Instant>,
    /// A stream of the leader's broke off in the middle.
    pub(super) severed: Notify,
}

impl Stores {
    pub(super) fn open(settings: &Settings, directory: &Directory) -> Result<Self, StoreError> {
        let media = directory.media().clone();
        let path = directory.path();
        let options = LogOptions {
            segment_bytes: settings.segment_bytes,
            ..LogOptions::new(
                path_in(path),
                directory.id(),
                media.clone(),
                settings.on_failure.clone(),
            )
        };
        let snapshots = Snapshots::open(&path.join("snapshots"), media.clone())?;
        let tables = Tables::open(&path.join("tables"), media, settings.on_failure.clone())?;
        let log = (settings.open_log.0)(options)?;
        let stores = Self {
            log,
            tables: Arc::new(tables),
            snapshots,
        };
        stores.check(path)?;
        Ok(stores)
    }

    /// What was purged from the log must be in a snapshot.
    fn check(&self, path: &std::path::Path) -> Result<(), StoreError> {
        let purged = self.log.state().purged.map_or(0, |purged| purged.index);
        let covered = self
            .snapshots
            .current()
            .and_then(|snapshot| snapshot.header().position);
        if purged > covered.map_or(0, |covered| covered.index) {
            let what = format!(
                "the log begins after entry {purged}, and no readable snapshot reaches that far"
            );
            return Err(StoreError::damaged(&path.join("snapshots"), what));
        }
        Ok(())
    }
}

impl Core {
    pub(super) async fn start(
        settings: &Settings,
        directory: &Directory,
        stores: Stores,
        node: NodeId,
        network: Network,
        state: watch::Sender<Arc<State>>,
    ) -> Result<Self, RaftError> {
        let config = settings
            .config()
            .map_err(|e| RaftError::Settings(e.to_string()))?;
        let had_voted = stores.log.state().vote.is_some();
        let log = LogStore::new(
            stores.log.clone(),
            stores.tables.clone(),
            Some(stores.snapshots.clone()),
        );
        let machine = Machine::new(
            settings.cluster.clone(),
            stores.snapshots.clone(),
            stores.tables.clone(),
            state,
        );
        let engine = Engine::new(node, Arc::new(config), network.clone(), log, machine)
            .await
            .map_err(|fatal| RaftError::Engine(fatal.to_string()))?;
        let wait = if had_voted {
            settings.timing.election_most
        } else {
            Duration::ZERO
        };
        Ok(Self {
            engine,
            node,
            directory: directory.id().to_string(),
            network,
            stores,
            votes_from: Instant::now() + wait,
            heard: Mutex::new(Instant::now()),
            severed: Notify::new(),
        })
    }

    pub(super) fn may_vote(&self) -> bool {
        Instant::now() >= self.votes_from
    }

    /// A leader has called.
    pub(super) fn hear(&self) {
        *self.heard.lock().expect("held for copies only") = Instant::now();
    }

    /// A stream from `node` has broken off.
    pub(super) fn sever(&self, node: NodeId) {
        if self.metrics().current_leader == Some(node) {
            self.severed.notify_one();
        }
    }

    /// When a leader last called.
    pub(super) fn heard_at(&self) -> Instant {
        *self.heard.lock().expect("held for copies only")
    }

    /// How long ago a leader has called.
    pub(super) fn silence(&self) -> Duration {
        self.heard_at().elapsed()
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.engine.metrics().borrow_watched().clone()
    }

    /// The newest membership in the log.
    pub(super) fn membership(&self) -> Membership {
        self.metrics().membership_config.membership().clone()
    }

    /// One member's address and directory. Asked at every call: nothing else is cloned.
    pub(super) fn peer(&self, node: NodeId) -> Option<Peer> {
        let metrics = self.engine.metrics();
        let now = metrics.borrow_watched();
        now.membership_config.membership().get_node(&node).cloned()
    }

    pub(super) fn peers(&self) -> BTreeMap<NodeId, Peer> {
        self.membership()
            .nodes()
            .map(|(id, peer)| (*id, peer.clone()))
            .collect()
    }

    /// A client for a member, and the envelope of a call to it.
    pub(super) fn call(
        &self,
        node: NodeId,
    ) -> Option<(
        xds_api::maille::v1::peer_client::PeerClient<tonic::transport::Channel>,
        xds_api::maille::v1::Envelope,
    )> {
        let peer = self.peer(node)?;
        let client = self
            .network
            .connections
            .client(&peer.address, Purpose::Calls)
            .ok()?;
        Some((client, self.network.sender.envelope(node, &peer.directory)))
    }
}

pub(super) fn leadership(metrics: &Metrics) -> Leadership {
    let is_leader = metrics.state == ServerState::Leader;
    Leadership {
        leader: metrics.current_leader,
        is_leader: is_leader && metrics.current_leader == Some(metrics.id),
        term: metrics.current_term,
    }
}
