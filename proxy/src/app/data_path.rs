//! The accept loops of both directions, on one worker or several.

use super::common::Common;
use super::member::Member;
use crate::config::{Bind, Config, Egress};
use crate::drain::Work;
use crate::identity::{Credentials, Identity};
use crate::inbound::{self, Arrivals, Inbound};
use crate::metrics::Metrics;
use crate::net;
use crate::outbound::{self, Claims, Departures, Gate, Outbound};
use crate::shared::{Process, Shared};
use crate::snapshot::{Directory, Locality};
use crate::supervise::{Pending, Tasks};
use crate::tls::Mesh;
use anyhow::Context;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

/// What the data path is made of.
#[derive(Clone)]
pub(super) struct DataPath {
    config: Arc<Config>,
    workloads: Arc<Workloads>,
    metrics: Metrics,
    tasks: Tasks,
}

/// Whose connections it takes.
enum Workloads {
    /// Everything is one workload's.
    One(Workload),
    /// Connections have to be told apart.
    Several(Arc<Gate>, Vec<Workload>),
}

/// A workload whose connections it takes.
struct Workload {
    config: Arc<Config>,
    directory: Arc<dyn Directory>,
    mesh: watch::Receiver<Option<Arc<Mesh>>>,
    metrics: Metrics,
    tasks: Tasks,
}

impl From<&Member> for Workload {
    fn from(member: &Member) -> Self {
        Self {
            config: member.config.clone(),
            directory: Arc::new(member.xds.clone()),
            mesh: mesh(&member.identity, &member.tasks),
            metrics: member.metrics.clone(),
            tasks: member.tasks.clone(),
        }
    }
}

/// The certificate in force, ready for handshakes.
fn mesh(identity: &Identity, tasks: &Tasks) -> watch::Receiver<Option<Arc<Mesh>>> {
    let mut credentials = identity.credentials();
    let (publish, receiver) = watch::channel(None);
    let stopping = tasks.stopping();
    tasks.vital("mesh tls", async move {
        loop {
            let current = credentials.borrow_and_update().clone();
            match current.as_deref().map(ready).transpose() {
                Ok(mesh) => {
                    publish.send_replace(mesh.map(Arc::new));
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(
                        error,
                        "the certificate cannot be used between proxies; the one before stays"
                    );
                }
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                changed = credentials.changed() => if changed.is_err() { return },
            }
        }
    });
    receiver
}

fn ready(credentials: &Credentials) -> Result<Mesh, crate::tls::TlsError> {
    let roots = (**credentials.trust()).clone();
    Mesh::new(credentials.chain.clone(), &credentials.key(), roots)
}

/// One worker's sockets, bound before anything is served.
struct Listeners {
    mesh: Vec<TcpListener>,
    outbound: Vec<TcpListener>,
}

impl DataPath {
    /// Opens nothing yet.
    pub(super) fn new(common: &Common, several: bool) -> anyhow::Result<Self> {
        let workloads = match &common.members[..] {
            [member] if !several => Workloads::One(Workload::from(member)),
            members => {
                let workloads = members.iter().map(Workload::from).collect();
                Workloads::Several(gate(members, &common.metrics)?, workloads)
            }
        };
        Ok(Self {
            config: common.config.clone(),
            workloads: Arc::new(workloads),
            metrics: common.metrics.clone(),
            tasks: common.tasks.clone(),
        })
    }

    /// Binds every listener and starts the workers. Each workload's place in `listeners` is dropped once all of its own are
    /// open.
    pub(super) fn start(self, work: Work, listeners: Vec<Pending>) -> anyhow::Result<()> {
        let listeners: Vec<_> = listeners.into_iter().map(Arc::new).collect();
        for worker in 1..self.config.workers {
            let (path, work, pending) = (self.clone(), work.clone(), listeners.clone());
            self.start_thread(worker, move || path.start_worker(work, pending))?;
        }
        self.start_worker(work, listeners)
    }

    /// A further worker: a thread with a runtime, sockets and pools of its own.
    fn start_thread(
        &self,
        worker: usize,
        start: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let stopping = self.tasks.stopping();
        let (started, outcome) = std::sync::mpsc::sync_channel(1);
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return started.send(Err(error.into())).unwrap_or_default(),
            };
            runtime.block_on(async {
                started.send(start()).unwrap_or_default();
                stopping.cancelled().await;
            });
        };
        std::thread::Builder::new()
            .name(format!("worker-{worker}"))
            .spawn(body)
            .context("cannot start a worker's thread")?;
        outcome.recv().context("a worker's thread ended at once")?
    }

    fn start_worker(&self, work: Work, mut pending: Vec<Arc<Pending>>) -> anyhow::Result<()> {
        let listeners = self.bind()?;
        match &*self.workloads {
            Workloads::One(workload) => {
                let (inbound, outbound) = self.sides(workload, &work, None);
                self.accept_all("inbound", listeners.mesh, |one| inbound.clone().run(one));
                self.accept_all("outbound", listeners.outbound, |one| {
                    outbound.clone().run(one)
                });
                self.follow_upstreams(outbound, pending.pop());
            }
            Workloads::Several(gate, workloads) => {
                let side = |(place, workload)| {
                    let gate = Some((gate.clone(), place));
                    self.sides(workload, &work, gate)
                };
                let sides = workloads.iter().enumerate().map(side);
                let (inbounds, outbounds): (Vec<_>, Vec<_>) = sides.unzip();
                for (outbound, pending) in outbounds.iter().zip(pending) {
                    self.follow_upstreams(outbound.clone(), Some(pending));
                }
                let process = Process {
                    metrics: self.metrics.clone(),
                    tasks: self.tasks.clone(),
                    work,
                };
                let arrivals = Arrivals::new(process.clone(), self.own(), &inbounds);
                self.accept_all("inbound", listeners.mesh, |one| arrivals.clone().run(one));
                let departures = Departures::new(process, gate.clone(), outbounds);
                self.accept_all("outbound", listeners.outbound, |one| {
                    departures.clone().run(one)
                });
            }
        }
        Ok(())
    }

    /// A workload's two sides. `gate`: its place among several.
    fn sides(
        &self,
        workload: &Workload,
        work: &Work,
        gate: Option<(Arc<Gate>, usize)>,
    ) -> (Arc<Inbound>, Arc<Outbound>) {
        let shared = Shared {
            directory: workload.directory.clone(),
            mesh: workload.mesh.clone(),
            metrics: workload.metrics.clone(),
            tasks: workload.tasks.clone(),
            work: work.clone(),
        };
        let ports = workload.config.workload.ports.iter();
        let inbound = inbound::Settings {
            applications: ports.map(|port| (port.port, port.application)).collect(),
            own: self.own(),
            several: gate.is_some(),
        };
        let locality = &workload.config.workload.locality;
        let (region, zone) = locality.split_once('/').unwrap_or((locality, ""));
        let outbound = outbound::Settings {
            egress: self.config.egress == Egress::Allow,
            virtual_ranges: self.config.virtual_ranges.clone(),
            own: self.own(),
            locality: Locality {
                region: region.into(),
                zone: zone.into(),
            },
            gate,
        };
        (
            Inbound::new(shared.clone(), inbound),
            Outbound::new(shared, outbound),
        )
    }

    /// Keeps a workload's explicit listeners; `pending` is dropped once those that it is told first are open.
    fn follow_upstreams(&self, outbound: Arc<Outbound>, pending: Option<Arc<Pending>>) {
        let (open, opened) = oneshot::channel();
        let several = self.config.workers > 1;
        self.tasks.spawn(outbound.follow_upstreams(several, open));
        self.tasks.spawn(async move {
            // An error means that the drain came first; then nobody asks whether the process is ready.
            opened.await.ok();
            drop(pending);
        });
    }

    fn accept_all<F>(
        &self,
        name: &'static str,
        listeners: Vec<TcpListener>,
        run: impl Fn(TcpListener) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        for listener in listeners {
            self.accept(name, run(listener));
        }
    }

    /// An accept loop ends by itself when the drain begins; before that its end is the process's.
    fn accept(&self, name: &'static str, accepting: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.tasks.stopping();
        self.tasks.vital(name, async move {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = accepting => {}
            }
            stopping.cancelled().await;
        });
    }

    fn bind(&self) -> anyhow::Result<Listeners> {
        let several = self.config.workers > 1;
        let listen = &self.config.listen;
        Ok(Listeners {
            mesh: bind("listen.mesh", &listen.mesh, several)?,
            outbound: bind("listen.outbound", &listen.outbound, several)?,
        })
    }

    /// Where the proxy itself listens.
    fn own(&self) -> Vec<SocketAddr> {
        let listen = &self.config.listen;
        let lists = [&listen.outbound, &listen.mesh, &listen.dns, &listen.metrics];
        let all = lists.into_iter().flatten().map(|bind| bind.address);
        all.chain([listen.admin]).collect()
    }
}

/// What tells the callers of several workloads apart.
fn gate(members: &[Member], metrics: &Metrics) -> anyhow::Result<Arc<Gate>> {
    let names = members.iter().map(Member::node).collect();
    let users = members
        .iter()
        .map(|member| member.config.workload.users.ranges());
    let gate = Gate::new(names, Claims::new(users), metrics.clone());
    gate.context("the kernel does not say whose connections are (SOCK_DIAG for TCP, the modules inet_diag and tcp_diag), so that several workloads cannot share a sidecar; give each a sidecar of its own")
}

fn bind(field: &str, binds: &[Bind], several: bool) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for bind in binds {
        let address = bind.address;
        match net::listen(address, several) {
            Ok(listener) => {
                info!(%address, "listening for {field}");
                listeners.push(listener);
            }
            Err(error) if !bind.required => warn!(%address, %error, "nothing here for {field}"),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot listen on {address} ({field}); is another program there? Set {field} to a free address")
                });
            }
        }
    }
    Ok(listeners)
}
