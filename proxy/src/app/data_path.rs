//! The accept loops of both directions, on one worker or several.

use crate::config::{Bind, Config, Egress};
use crate::drain::Work;
use crate::identity::{Credentials, Identity};
use crate::inbound::{self, Inbound};
use crate::metrics::Metrics;
use crate::net;
use crate::outbound::{self, Outbound};
use crate::shared::Shared;
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
    pub(super) config: Arc<Config>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) mesh: watch::Receiver<Option<Arc<Mesh>>>,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
}

/// The certificate in force, ready for handshakes.
pub(super) fn mesh(identity: &Identity, tasks: &Tasks) -> watch::Receiver<Option<Arc<Mesh>>> {
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
    /// Binds every listener and starts the workers. `listeners` is dropped once all of them are open.
    pub(super) fn start(self, work: Work, listeners: Pending) -> anyhow::Result<()> {
        let listeners = Arc::new(listeners);
        for worker in 1..self.config.workers {
            let (path, work, pending) = (self.clone(), work.clone(), Arc::clone(&listeners));
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

    fn start_worker(&self, work: Work, pending: Arc<Pending>) -> anyhow::Result<()> {
        let listeners = self.bind()?;
        let shared = Shared {
            directory: Arc::clone(&self.directory),
            mesh: self.mesh.clone(),
            metrics: self.metrics.clone(),
            tasks: self.tasks.clone(),
            work,
        };
        let inbound = Inbound::new(shared.clone(), self.inbound_settings());
        for listener in listeners.mesh {
            self.accept("inbound", Arc::clone(&inbound).run(listener));
        }
        let outbound = Outbound::new(shared, self.outbound_settings());
        for listener in listeners.outbound {
            self.accept("outbound", Arc::clone(&outbound).run(listener));
        }
        let (open, opened) = oneshot::channel();
        let several = self.config.workers > 1;
        self.tasks.spawn(outbound.follow_upstreams(several, open));
        self.tasks.spawn(async move {
            // An error means that the drain came first; then nobody asks whether the process is ready.
            opened.await.ok();
            drop(pending);
        });
        Ok(())
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

    fn inbound_settings(&self) -> inbound::Settings {
        let ports = self.config.workload.ports.iter();
        inbound::Settings {
            applications: ports.map(|port| (port.port, port.application)).collect(),
            own: self.own(),
        }
    }

    fn outbound_settings(&self) -> outbound::Settings {
        let locality = &self.config.workload.locality;
        let (region, zone) = locality.split_once('/').unwrap_or((locality, ""));
        outbound::Settings {
            egress: self.config.egress == Egress::Allow,
            virtual_ranges: self.config.virtual_ranges.clone(),
            own: self.own(),
            locality: Locality {
                region: region.into(),
                zone: zone.into(),
            },
        }
    }

    /// Where the proxy itself listens.
    fn own(&self) -> Vec<SocketAddr> {
        let listen = &self.config.listen;
        let lists = [&listen.outbound, &listen.mesh, &listen.dns, &listen.metrics];
        let all = lists.into_iter().flatten().map(|bind| bind.address);
        all.chain([listen.admin]).collect()
    }
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
