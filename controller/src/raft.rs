//! The cluster: openraft over `store`, its messages over `maille.v1.Peer`, the agreed state as a `watch`.
//!
//! openraft is named only here. Raft, its log and its calls run on a runtime of their own: a storm of handshakes elsewhere must not cost an
//! election.

mod clients;
mod confirm;
mod core;
mod formation;
mod leader;
mod log_store;
mod machine;
mod members;
mod network;
mod payload;
mod propose;
mod read;
mod restore;
mod service;
mod settings;
mod status;
mod succession;
mod trimming;
mod types;
mod wire;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::Status as CallStatus;
use xds_api::maille::v1 as proto;

use crate::agreement::{Agreement, AgreementError, Leading, LeaseSink, Peers, RosterSource};
use crate::model::{Applied, Command, Proposal, State};
use crate::peer_ca::PeerTls;
use crate::store::StoreError;
use crate::store::directory::{Directory, DirectoryId};
use crate::store::space::Space;
use crate::supervise::Stage;
use crate::tls::{AcceptLimits, accept};

use self::core::{Core, Stores};
use network::{Connections, Network, Sender};
use propose::{Refused, WAITING, Waiting};

pub use self::core::Leadership;
pub use members::MembersError;
pub use read::{Consistency, Read};
pub use restore::{Restored, restore};
pub use settings::{Addresses, OpenLog, OpenLogFn, Settings, Timing};
pub use status::{MemberStatus, Status};
pub use types::NodeId;

/// Threads for Raft, its calls and its TLS.
const THREADS: usize = 2;
/// How long a write may take, elections included. Past it the outcome is unknown.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long a call waits for a leader to be found: two elections that fail and one that does not.
const LEADER_LIMIT: Duration = Duration::from_secs(3);
/// A pause before asking again after an answer that will change soon.
const PAUSE: Duration = Duration::from_millis(20);
/// How long stopping waits for the runtime's blocking work (a snapshot being written).
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Peers connect seldom and stay; a handful of handshakes at once is plenty.
const PEER_LIMITS: AcceptLimits = AcceptLimits {
    handshakes: 16,
    per_second: 50,
    burst: 100,
};

/// This controller cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// The disk.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// A runtime or a port.
    #[error("cannot {0}")]
    Io(&'static str, #[source] std::io::Error),
    /// Settings that do not fit together.
    #[error("raft's settings are wrong: {0}")]
    Settings(String),
    /// openraft refused what it found.
    #[error("raft cannot start: {0}")]
    Engine(String),
    /// The cluster refused this controller.
    #[error("{0}")]
    Refused(String),
}

/// This controller's part in the cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Raft(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    directory: Arc<Directory>,
    connections: Connections,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    stage: Stage,
    core: watch::Sender<Option<Arc<Core>>>,
    state: watch::Sender<Arc<State>>,
    leadership: watch::Sender<Leadership>,
    leads: watch::Sender<bool>,
    /// The term in which this controller leads, while it does.
    term: watch::Sender<Option<u64>>,
    proposals: mpsc::Sender<Waiting>,
    queue: Mutex<Option<mpsc::Receiver<Waiting>>>,
    leases: OnceLock<Arc<dyn LeaseSink>>,
    clients: OnceLock<Arc<dyn RosterSource>>,
    /// What the formation waits for, in words.
    waiting_for: watch::Sender<String>,
}

impl Raft {
    /// Opens the store, serves the peer port and finds, founds or joins the cluster in the background.
    ///
    /// `directory` is this controller's data directory, `listener` its peer port; `stage` ends it.
    pub async fn start(
        settings: Settings,
        directory: Arc<Directory>,
        listener: std::net::TcpListener,
        tls: &PeerTls,
        stage: Stage,
    ) -> Result<Self, RaftError> {
        settings
            .config()
            .map_err(|e| RaftError::Settings(e.to_string()))?;
        let stores = {
            let (settings, directory) = (settings.clone(), directory.clone());
            let opening = tokio::task::spawn_blocking(move || Stores::open(&settings, &directory));
            opening
                .await
                .map_err(|e| RaftError::Io("open the store", std::io::Error::other(e)))??
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("raft")
            .enable_all()
            .build()
            .map_err(|e| RaftError::Io("start raft's threads", e))?;
        let (proposals, queue) = mpsc::channel(WAITING);
        let raft = Self(Arc::new(Inner {
            settings,
            directory,
            connections: Connections::new(tls.client.clone()),
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            stage: stage.clone(),
            core: watch::Sender::new(None),
            state: watch::Sender::new(Arc::default()),
            leadership: watch::Sender::default(),
            leads: watch::Sender::default(),
            term: watch::Sender::default(),
            proposals,
            queue: Mutex::new(Some(queue)),
            leases: OnceLock::new(),
            clients: OnceLock::new(),
            waiting_for: watch::Sender::new("the store".into()),
        }));
        raft.serve(listener, tls)?;
        let forming = raft.clone();
        stage.vital_on(&raft.0.handle, "formation", async move {
            forming.form(stores).await
        });
        Ok(raft)
    }

    /// Serves the peer port, from before there is a cluster.
    fn serve(&self, listener: std::net::TcpListener, tls: &PeerTls) -> Result<(), RaftError> {
        let _within = self.0.handle.enter();
        let failed = |e| RaftError::Io("listen for peers", e);
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let connections = accept(
            &self.0.stage,
            "peers",
            listener,
            tls.server.clone(),
            PEER_LIMITS,
        );
        let service = service::server(self.clone());
        let stopping = self.0.stage.stopping();
        let serving = async move {
            // Not gracefully: a leader's stream of entries has no end of its own.
            tokio::select! {
                () = stopping.cancelled() => {}
                served = service.serve_with_incoming(connections) => {
                    if let Err(error) = served {
                        tracing::error!(%error, "the peer server ended");
                    }
                }
            }
        };
        self.0
            .stage
            .vital_on(&self.0.handle, "peer server", serving);
        Ok(())
    }

    /// The state that this controller has applied, as it changes.
    pub fn state(&self) -> watch::Receiver<Arc<State>> {
        self.0.state.subscribe()
    }

    /// Who leads, as it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.subscribe()
    }

    /// Who takes renewals of leases while this controller leads. Only the first call counts.
    pub fn take_leases(&self, sink: Arc<dyn LeaseSink>) {
        if self.0.leases.set(sink).is_err() {
            tracing::warn!("somebody takes leases already");
        }
    }

    /// Who names this controller's xDS clients to others. Only the first call counts.
    pub fn name_clients(&self, source: Arc<dyn RosterSource>) {
        if self.0.clients.set(source).is_err() {
            tracing::warn!("somebody names the clients already");
        }
    }

    /// This controller's node id, once it is a member.
    pub fn node(&self) -> Option<NodeId> {
        self.core().map(|core| core.node)
    }

    /// This controller's directory id.
    pub fn directory(&self) -> DirectoryId {
        self.0.directory.id()
    }

    /// What the formation waits for, in words; empty once this controller is a member.
    pub fn waiting_for(&self) -> watch::Receiver<String> {
        self.0.waiting_for.subscribe()
    }

    /// Returns once this controller is a member, has heard of a leader and has applied all that it had applied before it was last stopped.
    pub async fn ready(&self) {
        let mut cores = self.0.core.subscribe();
        let core = match cores.wait_for(Option::is_some).await {
            Ok(core) => core.clone(),
            Err(_) => return,
        };
        let Some(core) = core else { return };
        if let Err(error) = core.engine.wait_for_recovery(None).await {
            tracing::warn!(%error, "raft ended before it was ready");
        }
    }

    fn core(&self) -> Option<Arc<Core>> {
        self.0.core.borrow().clone()
    }

    fn require_core(&self) -> Result<Arc<Core>, AgreementError> {
        self.core().ok_or_else(|| {
            let waiting = self.0.waiting_for.borrow().clone();
            AgreementError::Unavailable(format!(
                "this controller is in no cluster yet; it waits for {waiting}"
            ))
        })
    }

    /// Writes, through whichever controller leads. A proposal with a `client` is tried again until it is answered or the time is up; it is
    /// applied once.
    pub async fn propose(&self, proposal: Proposal) -> Result<Applied, AgreementError> {
        let core = self.require_core()?;
        let deadline = Instant::now() + WRITE_LIMIT;
        let is_repeatable = !proposal.client.is_empty();
        loop {
            let leader = self.find_leader(deadline).await?;
            let answer = match leader == core.node {
                true => self.propose_here(proposal.clone(), deadline).await,
                false => self.forward(&core, leader, &proposal, deadline).await,
            };
            let refused = match answer {
                Ok(applied) => return Ok(applied),
                Err(refused) => refused,
            };
            let is_safe = is_repeatable || matches!(refused, Refused::NotLeader);
            if matches!(refused, Refused::Unavailable(_))
                || !is_safe
                || Instant::now() + PAUSE >= deadline
            {
                return Err(refused.into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for a leader to be known.
    async fn find_leader(&self, deadline: Instant) -> Result<NodeId, AgreementError> {
        let until = deadline.min(Instant::now() + LEADER_LIMIT);
        let mut leadership = self.leadership();
        let found =
            tokio::time::timeout_at(until, leadership.wait_for(|now| now.leader.is_some())).await;
        let leader = match found {
            Ok(Ok(now)) => now.leader,
            Ok(Err(_)) | Err(_) => None,
        };
        leader.ok_or_else(|| {
            let text =
                "there is no leader: too few controllers reach each other; see `maille members`";
            AgreementError::Unavailable(text.into())
        })
    }

    /// Writes as the leader.
    async fn propose_here(
        &self,
        proposal: Proposal,
        deadline: Instant,
    ) -> Result<Applied, Refused> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let waiting = Waiting { proposal, answer };
        let sent = tokio::time::timeout_at(deadline, self.0.proposals.send(waiting)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Refused::Unavailable("this controller is stopping".into())),
            Err(_) => return Err(Refused::Unavailable("the leader is overloaded".into())),
        }
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refused::Unknown("this controller is stopping".into())),
            Err(_) => Err(Refused::Unknown("no quorum answered in time".into())),
        }
    }

    /// Sends a proposal to the leader. One hop.
    async fn forward(
        &self,
        core: &Core,
        leader: NodeId,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Applied, Refused> {
        let Some((mut client, envelope)) = self.within(|| core.call(leader)) else {
            return Err(Refused::NotLeader);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let mut request = tonic::Request::new(proto::ForwardRequest {
            envelope: Some(envelope),
            proposal: proposal.encode(),
            timeout_millis: left.as_millis() as u32,
        });
        request.set_timeout(left);
        let answer = match client.forward(request).await {
            Ok(response) => response.into_inner().answer,
            Err(status) => return Err(forward_failure(&status)),
        };
        match answer {
            Some(proto::forward_response::Answer::Applied(applied)) => {
                Applied::decode(applied).map_err(|error| Refused::Unknown(error.to_string()))
            }
            Some(proto::forward_response::Answer::NotLeader(_)) => Err(Refused::NotLeader),
            None => Err(Refused::Unknown("the leader's answer is empty".into())),
        }
    }

    /// Runs what makes connections within raft's own runtime, so that it drives them.
    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _within = self.0.handle.enter();
        work()
    }

    /// Ends this controller's part: hands leadership over where it leads (unless `abrupt`), closes the store.
    pub async fn stop(&self, abrupt: bool) {
        if !abrupt {
            self.hand_over_before_stopping().await;
        }
        let core = self.0.core.send_replace(None);
        // Both at once: peers' streams end with the engine, and the engine must not be reported as failed.
        let engine = async {
            if let Some(core) = &core
                && let Err(error) = core.engine.shutdown().await
            {
                tracing::warn!(%error, "raft did not stop cleanly");
            }
        };
        tokio::join!(self.0.stage.stop(), engine);
        drop(
            self.0
                .queue
                .lock()
                .expect("held to take the queue only")
                .take(),
        );
        let runtime = self
            .0
            .runtime
            .lock()
            .expect("held to take the runtime only")
            .take();
        let directory = self.0.directory.clone();
        let closing = tokio::task::spawn_blocking(move || {
            if let Some(runtime) = runtime {
                runtime.shutdown_timeout(STOP_LIMIT);
            }
            // Waits for the writers; only then is the directory anybody else's.
            drop(core);
            directory.release();
        });
        if let Err(error) = closing.await {
            tracing::warn!(%error, "the store did not close cleanly");
        }
    }

    fn space(&self) -> Space {
        Space::new(self.0.directory.path(), self.0.settings.reserve)
    }

    fn network(&self, node: NodeId) -> Network {
        Network {
            connections: self.0.connections.clone(),
            sender: Sender {
                cluster: self.0.settings.cluster.clone(),
                node,
                directory: self.0.directory.id().to_string(),
            },
        }
    }
}

impl Drop for Inner {
    /// A runtime may not be dropped where others run; without `stop` it is left to end by itself.
    fn drop(&mut self) {
        if let Ok(mut runtime) = self.runtime.lock()
            && let Some(runtime) = runtime.take()
        {
            runtime.shutdown_background();
        }
    }
}

fn forward_failure(status: &tonic::Status) -> Refused {
    match status.code() {
        // The leader said so itself.
        tonic::Code::ResourceExhausted | tonic::Code::FailedPrecondition => {
            Refused::Unavailable(status.message().to_owned())
        }
        _ => Refused::Unknown(format!("the leader did not answer: {}", status.message())),
    }
}

impl Leading for Raft {
    fn term(&self) -> watch::Receiver<Option<u64>> {
        self.0.term.subscribe()
    }

    fn propose_leading(
        &self,
        proposal: Proposal,
    ) -> BoxFuture<'static, Result<Applied, AgreementError>> {
        let raft = self.clone();
        Box::pin(async move {
            if !*raft.0.leads.borrow() {
                return Err(Refused::NotLeader.into());
            }
            let deadline = Instant::now() + WRITE_LIMIT;
            Ok(raft.propose_here(proposal, deadline).await?)
        })
    }
}

impl Agreement for Raft {
    fn state(&self) -> watch::Receiver<Arc<State>> {
        self.state()
    }

    fn leads(&self) -> watch::Receiver<bool> {
        self.0.leads.subscribe()
    }

    fn propose(&self, proposal: Proposal) -> BoxFuture<'static, Result<Applied, AgreementError>> {
        let raft = self.clone();
        Box::pin(async move { Self::propose(&raft, proposal).await })
    }

    fn read(&self) -> BoxFuture<'static, Result<Arc<State>, AgreementError>> {
        let raft = self.clone();
        Box::pin(async move { Ok(Self::read(&raft, Consistency::Consistent).await?.state) })
    }

    fn renew_leases(
        &self,
        leases: Vec<proto::LeaseId>,
    ) -> BoxFuture<'static, Result<(), AgreementError>> {
        let raft = self.clone();
        Box::pin(async move { raft.pass_leases_on(leases).await })
    }
}

impl Peers for Raft {
    fn proxies(&self) -> BoxFuture<'static, Vec<proto::Proxy>> {
        let raft = self.clone();
        Box::pin(async move { raft.ask_rosters().await })
    }

    fn streams(&self) -> BoxFuture<'static, Vec<u64>> {
        let raft = self.clone();
        Box::pin(async move { raft.ask_streams().await })
    }

    fn preview(
        &self,
        command: Command,
        index: u64,
    ) -> BoxFuture<'static, Vec<(String, Result<proto::Preview, CallStatus>)>> {
        let raft = self.clone();
        Box::pin(async move { raft.ask_previews(&command, index).await })
    }

    fn loads(
        &self,
        request: proto::LoadsRequest,
    ) -> BoxFuture<'static, Vec<(String, Result<proto::LoadsResponse, CallStatus>)>> {
        let raft = self.clone();
        Box::pin(async move { raft.ask_loads(&request).await })
    }
}

#[cfg(test)]
mod tests;
