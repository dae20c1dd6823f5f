//! Starts the parts, leaves first, and waits for the end.

use super::data_path::{self, DataPath};
use super::join::join;
use super::shutdown::{Parts, Signals};
use crate::admin::{self, Admin, Scope};
use crate::config::{Bind, Config};
use crate::controllers::Controllers;
use crate::dns::{self, Resolvers};
use crate::identity::{self, Identity};
use crate::metrics::Metrics;
use crate::registration::{self, Registration};
use crate::snapshot::{Directory, Snapshot};
use crate::supervise::{Pending, Readiness, Tasks, tasks};
use crate::telemetry::LogLevel;
use crate::xds::{self, Xds};
use crate::{drain, files, health};
use anyhow::Context;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tracing::info;

/// Where the system keeps its resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// From the first part to the last, and back.
pub(super) async fn serve(config: Arc<Config>, log: LogLevel) -> anyhow::Result<()> {
    let signals = Signals::new().context("cannot listen for signals")?;
    let (tasks, endings) = tasks();
    let readiness = Readiness::default();
    let waits = Waits::new(&readiness);
    let metrics = Metrics::new();
    files::private_directory(&config.data_directory).context("dataDir")?;

    let (token, controllers) = join(&config)?;
    let (publish, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let settings = identity::Settings {
        controllers: controllers.clone(),
        join_token: token,
        trust_domain: config.trust_domain.clone(),
        namespace: config.workload.namespace.to_string(),
        workload: config.workload.node(),
        directory: config.data_directory.clone(),
    };
    let identity = identity::start(settings, snapshots, &tasks)?;
    let xds = start_xds(&config, &controllers, &identity, publish, &tasks);

    let drain_asked = Arc::new(Notify::new());
    let admin = Arc::new(Admin {
        readiness: readiness.clone(),
        metrics: metrics.clone(),
        log,
        identity: identity.clone(),
        xds: xds.clone(),
        configuration: config.resolved(),
        drain: Arc::clone(&drain_asked),
    });
    start_admin(&config, &admin, &tasks)?;

    let (drain, work) = drain::channel();
    let data_path = DataPath {
        config: Arc::clone(&config),
        directory: Arc::new(xds.clone()),
        mesh: data_path::mesh(&identity, &tasks),
        metrics: metrics.clone(),
        tasks: tasks.clone(),
    };
    data_path.start(work, waits.listeners)?;
    start_dns(&config, &xds, &metrics, &tasks).await?;
    tasks.spawn(ready_when_told(
        identity.clone(),
        xds,
        waits.certificate,
        waits.configuration,
    ));
    let registration = start_registration(&config, controllers, identity, &tasks);
    info!(workload = %config.workload.node(), version = env!("CARGO_PKG_VERSION"), "started");

    let parts = Parts {
        config,
        drain,
        drain_asked,
        registration,
        readiness,
        tasks,
        endings,
    };
    parts.run(signals).await
}

/// What the process waits for before it is ready.
struct Waits {
    certificate: Pending,
    configuration: Pending,
    listeners: Pending,
}

impl Waits {
    fn new(readiness: &Readiness) -> Self {
        Self {
            certificate: readiness.wait_for("a certificate"),
            configuration: readiness.wait_for("the control plane's configuration"),
            listeners: readiness.wait_for("listeners"),
        }
    }
}

fn start_xds(
    config: &Config,
    controllers: &Controllers,
    identity: &Identity,
    publish: watch::Sender<Arc<Snapshot>>,
    tasks: &Tasks,
) -> Xds {
    let settings = xds::Settings {
        controllers: controllers.clone(),
        namespace: config.workload.namespace.to_string(),
        workload: config.workload.name.to_string(),
        locality: config.workload.locality.clone(),
        directory: config.data_directory.clone(),
    };
    xds::start(settings, identity.clone(), publish, tasks)
}

fn start_admin(config: &Config, admin: &Arc<Admin>, tasks: &Tasks) -> anyhow::Result<()> {
    let loopback = [Bind {
        address: config.listen.admin,
        required: true,
    }];
    admin::bind("listen.admin", &loopback, Scope::Loopback, admin, tasks)?;
    let everywhere = &config.listen.metrics;
    admin::bind(
        "listen.metrics",
        everywhere,
        Scope::Everywhere,
        admin,
        tasks,
    )?;
    Ok(())
}

async fn start_dns(
    config: &Config,
    xds: &Xds,
    metrics: &Metrics,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let binds = &config.listen.dns;
    let resolvers = match config.resolvers.is_empty() {
        true => {
            let own = binds.iter().map(|bind| bind.address).collect();
            Resolvers::file(RESOLV_CONF.into(), own)
        }
        false => Resolvers::given(config.resolvers.clone()),
    };
    dns::start(binds, xds.clone(), resolvers, metrics, tasks).await?;
    Ok(())
}

/// Drops what readiness waits for as it comes. What has come once stays: a control plane that goes away stops nothing.
async fn ready_when_told(
    mut identity: Identity,
    xds: Xds,
    certificate: Pending,
    configuration: Pending,
) {
    identity.first().await;
    drop(certificate);
    let mut snapshots = xds.snapshots().clone();
    let told = snapshots
        .wait_for(|snapshot| snapshot.inbound.is_some())
        .await;
    // An error means that the client is gone, and with it the process.
    if told.is_ok() {
        drop(configuration);
    }
}

/// A pure client, without ports, is registered too: so the control plane knows whose policy it is asked for.
fn start_registration(
    config: &Arc<Config>,
    controllers: Controllers,
    identity: Identity,
    tasks: &Tasks,
) -> Registration {
    let health = health::start(&config.workload.ports, tasks);
    let settings = registration::Settings {
        controllers,
        config: Arc::clone(config),
    };
    registration::start(settings, identity, health, tasks)
}
