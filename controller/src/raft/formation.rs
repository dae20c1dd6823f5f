//! From a directory to a member: goes on where it was, founds a cluster with the expected others, or joins one by token.
//!
//! A cluster is founded only when exactly the expected number of controllers see each other and none of them is in one. The one with the
//! lowest directory id writes the first membership; the others wait until they find themselves in it. Never by a timeout.

mod judge;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use tonic::{Code, Request};
use xds_api::maille::v1 as proto;

use self::judge::{Founder, Step, judge};
use super::core::{Core, Stores, leadership};
use super::network::Purpose;
use super::types::{NodeId, Payload, Peer};
use super::{Raft, RaftError, leader, payload, propose, succession};
use crate::model::LEVELS;
use crate::store::directory::Membership;

/// Between two rounds of asking.
const ROUND: Duration = Duration::from_millis(200);
/// How long a peer may take to answer.
const HELLO_LIMIT: Duration = Duration::from_secs(2);
/// How long a join may take: the leader writes three entries.
const JOIN_LIMIT: Duration = Duration::from_secs(10);
/// Rounds between two lines in the log that say the same.
const ROUNDS_PER_LINE: u32 = 25;

impl Raft {
    /// Becomes a member and stays one until the stage stops.
    pub(super) async fn form(self, stores: Stores) {
        let stopping = self.0.stage.stopping();
        let formed = tokio::select! {
            () = stopping.cancelled() => return,
            formed = self.become_member(stores) => formed,
        };
        match formed {
            Ok(core) => self.watch(core).await,
            Err(error) => {
                let text = super::status::text_with_causes(&error);
                tracing::error!(
                    error = text,
                    "this controller cannot take part in the cluster"
                );
                self.0.waiting_for.send_replace(text.clone());
                (self.0.settings.on_failure.0)(&crate::store::StoreError::Refused(text));
                stopping.cancelled().await;
            }
        }
    }

    async fn become_member(&self, stores: Stores) -> Result<Arc<Core>, RaftError> {
        if let Some(node) = self.known_member(&stores)? {
            return self.start_core(stores, node, None).await;
        }
        if let Some(token) = self.0.settings.join_token.clone() {
            let node = self.join_by_token(&token).await?;
            self.remember(node)?;
            return self.start_core(stores, node, None).await;
        }
        match self.find_or_found().await {
            Step::Found(members) => {
                let own = self.0.directory.id().to_string();
                let node = members
                    .iter()
                    .find(|(_, peer)| peer.directory == own)
                    .map(|(id, _)| *id);
                let node = node.ok_or_else(|| {
                    RaftError::Refused("this controller is not among the founders".into())
                })?;
                let core = self.start_core(stores, node, Some(members)).await?;
                self.remember(node)?;
                Ok(core)
            }
            Step::Member(node) => {
                self.remember(node)?;
                self.start_core(stores, node, None).await
            }
            Step::Wait(why) | Step::Refuse(why) => Err(RaftError::Refused(why)),
        }
    }

    /// Whether the directory says, or its log shows, that it is a member.
    fn known_member(&self, stores: &Stores) -> Result<Option<NodeId>, RaftError> {
        if let Some(known) = self.0.directory.identity().membership {
            if known.cluster != self.0.settings.cluster {
                return Err(RaftError::Store(crate::store::StoreError::Foreign {
                    path: self.0.directory.path().to_path_buf(),
                    what: "cluster",
                    found: known.cluster,
                    expected: self.0.settings.cluster.clone(),
                }));
            }
            return Ok(Some(known.node));
        }
        // A founder that was cut off between writing the first entry and its identity.
        let first = stores.log.read(0..1, usize::MAX)?;
        let Some(first) = first.into_iter().next() else {
            return Ok(None);
        };
        let Ok(entry) = payload::load(first) else {
            return Ok(None);
        };
        let Payload::Membership(founders) = entry.payload else {
            return Ok(None);
        };
        let own = self.0.directory.id().to_string();
        let node = founders
            .nodes()
            .find(|(_, peer)| peer.directory == own)
            .map(|(id, _)| *id);
        if let Some(node) = node {
            self.remember(node)?;
        }
        Ok(node)
    }

    fn remember(&self, node: NodeId) -> Result<(), RaftError> {
        let membership = Membership {
            cluster: self.0.settings.cluster.clone(),
            node,
        };
        Ok(self.0.directory.join(membership)?)
    }

    async fn start_core(
        &self,
        stores: Stores,
        node: NodeId,
        found: Option<BTreeMap<NodeId, Peer>>,
    ) -> Result<Arc<Core>, RaftError> {
        let (settings, directory) = (&self.0.settings, &self.0.directory);
        let core = Core::start(
            settings,
            directory,
            stores,
            node,
            self.network(node),
            self.0.state.clone(),
        )
        .await?;
        let core = Arc::new(core);
        if let Some(members) = found {
            let founded = core.engine.initialize(members).await;
            founded.map_err(|error| RaftError::Engine(error.to_string()))?;
            tracing::info!(node, "founded the cluster");
        }
        self.0.core.send_replace(Some(core.clone()));
        self.0.waiting_for.send_replace(String::new());
        let queue = self
            .0
            .queue
            .lock()
            .expect("held to take the queue only")
            .take();
        if let Some(queue) = queue {
            let stopping = self.0.stage.stopping();
            let batching = propose::run(core.clone(), queue, self.space(), stopping);
            self.0.stage.task_on(&self.0.handle, "proposals", batching);
        }
        self.0.stage.vital_on(
            &self.0.handle,
            "succession",
            succession::run(
                core.clone(),
                settings.timing.election_most,
                self.0.stage.stopping(),
            ),
        );
        self.0.stage.vital_on(
            &self.0.handle,
            "leader duties",
            leader::run(self.clone(), core.clone()),
        );
        Ok(core)
    }

    /// Publishes who leads; lets this node stand for election once it may; ends when Raft does.
    async fn watch(&self, core: Arc<Core>) {
        let stopping = self.0.stage.stopping();
        let votes_from = tokio::time::Instant::from_std(core.votes_from);
        let mut metrics = core.engine.metrics();
        let mut may_stand = false;
        loop {
            // They change several times an entry: nothing is cloned.
            let (leads, stopped) = {
                let now = metrics.borrow_and_update();
                (leadership(&now), now.running_state.clone().err())
            };
            if let Some(fatal) = stopped {
                if !stopping.is_cancelled() {
                    let text = format!("raft has stopped: {fatal}");
                    (self.0.settings.on_failure.0)(&crate::store::StoreError::Refused(text));
                }
                stopping.cancelled().await;
                return;
            }
            self.0
                .leads
                .send_if_modified(|is| std::mem::replace(is, leads.is_leader) != leads.is_leader);
            let term = leads.is_leader.then_some(leads.term);
            self.0
                .term
                .send_if_modified(|is| std::mem::replace(is, term) != term);
            self.0.leadership.send_if_modified(|is| {
                let is_new = *is != leads;
                *is = leads.clone();
                is_new
            });
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep_until(votes_from), if !may_stand => {
                    core.engine.runtime_config().elect(true);
                    may_stand = true;
                }
                changed = metrics.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Asks the peers until this directory is a member or may found the cluster.
    async fn find_or_found(&self) -> Step {
        let mut round = 0u32;
        loop {
            let answers = self.ask_all().await;
            let why = match self.judge(&answers, round) {
                Step::Wait(why) => why,
                step => return step,
            };
            if round.is_multiple_of(ROUNDS_PER_LINE) {
                tracing::info!("waiting for {why}");
            }
            round += 1;
            self.0.waiting_for.send_replace(why);
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn ask_all(&self) -> Vec<proto::HelloResponse> {
        let settings = &self.0.settings;
        let hello = proto::HelloRequest {
            cluster_id: settings.cluster.clone(),
            name: settings.name.clone(),
            directory: self.0.directory.id().to_string(),
            peer_address: settings.advertise.peers.clone(),
            expect: settings.bootstrap_expect,
        };
        let others = settings
            .peers
            .iter()
            .filter(|address| **address != settings.advertise.peers);
        let asked = others.map(|address| {
            let hello = hello.clone();
            async move {
                let mut client = self.0.connections.client(address, Purpose::Calls).ok()?;
                let mut request = Request::new(hello);
                request.set_timeout(HELLO_LIMIT);
                match client.hello(request).await {
                    Ok(answer) => Some(answer.into_inner()),
                    Err(status) => {
                        tracing::debug!(address, %status, "no answer to hello");
                        None
                    }
                }
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn judge(&self, answers: &[proto::HelloResponse], round: u32) -> Step {
        let settings = &self.0.settings;
        let own = Founder {
            name: settings.name.clone(),
            directory: self.0.directory.id().to_string(),
            address: settings.advertise.peers.clone(),
        };
        judge(&own, settings.bootstrap_expect, answers, round)
    }

    /// Asks the peers to be taken in, until one of them does or refuses for good.
    async fn join_by_token(&self, token: &str) -> Result<NodeId, RaftError> {
        let settings = &self.0.settings;
        let request = proto::JoinRequest {
            cluster_id: settings.cluster.clone(),
            name: settings.name.clone(),
            directory: self.0.directory.id().to_string(),
            peer_address: settings.advertise.peers.clone(),
            xds_address: settings.advertise.xds.clone(),
            admin_address: settings.advertise.admin.clone(),
            token: token.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            min_level: *LEVELS.start(),
            max_level: *LEVELS.end(),
        };
        self.0
            .waiting_for
            .send_replace("a controller to join".into());
        loop {
            for address in settings
                .peers
                .iter()
                .filter(|address| **address != settings.advertise.peers)
            {
                if let Some(node) = self.join_at(address, request.clone()).await? {
                    return Ok(node);
                }
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn join_at(
        &self,
        address: &str,
        request: proto::JoinRequest,
    ) -> Result<Option<NodeId>, RaftError> {
        let Ok(mut client) = self.0.connections.client(address, Purpose::Calls) else {
            return Ok(None);
        };
        let mut request = Request::new(request);
        request.set_timeout(JOIN_LIMIT);
        match client.join(request).await {
            Ok(answer) => match answer.into_inner().answer {
                Some(proto::join_response::Answer::Joined(joined)) => Ok(Some(joined.node)),
                _ => Ok(None),
            },
            Err(status) => match status.code() {
                Code::InvalidArgument
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::FailedPrecondition => Err(RaftError::Refused(format!(
                    "the cluster refused this controller: {}",
                    status.message()
                ))),
                _ => {
                    tracing::info!(address, %status, "cannot join here yet");
                    Ok(None)
                }
            },
        }
    }
}
