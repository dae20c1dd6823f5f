//! The parts that sidecar and agent have in common: identity, what the control plane tells, DNS, registration, administration.

use super::join::join;
use super::shutdown::Parts;
use crate::admin::{self, Admin, Scope};
use crate::config::{Bind, Config};
use crate::controllers::Controllers;
use crate::dns::{self, Resolvers};
use crate::drain::Drain;
use crate::identity::{self, Identity};
use crate::metrics::Metrics;
use crate::registration;
use crate::snapshot::{Directory, Snapshot};
use crate::supervise::{Endings, Readiness, Tasks, tasks};
use crate::telemetry::LogLevel;
use crate::xds::{self, Workload, Xds};
use crate::{files, health};
use anyhow::Context;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tracing::info;
use xds_api::maille::v1::Mesh;

/// Where the system keeps its resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What has been started.
pub(super) struct Common {
    pub(super) config: Arc<Config>,
    pub(super) controllers: Controllers,
    pub(super) identity: Identity,
    pub(super) xds: Xds,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
    readiness: Readiness,
    drain_asked: Arc<Notify>,
    endings: Endings,
}

impl Common {
    /// Identity first, then the conversation with the control plane, then what is shown of both.
    pub(super) fn start(
        config: Arc<Config>,
        log: LogLevel,
        readiness: Readiness,
    ) -> anyhow::Result<Self> {
        let (tasks, endings) = tasks();
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
        Ok(Self {
            config,
            controllers,
            identity,
            xds,
            metrics,
            tasks,
            readiness,
            drain_asked,
            endings,
        })
    }

    /// Tells the control plane what was called.
    pub(super) fn report_loads(&self) {
        xds::report(
            self.controllers.clone(),
            workload(&self.config),
            self.identity.clone(),
            self.metrics.loads().clone(),
            &self.tasks,
        );
    }

    /// Answers the names of the mesh.
    pub(super) async fn start_dns(&self) -> anyhow::Result<()> {
        let binds = &self.config.listen.dns;
        let resolvers = match self.config.resolvers.is_empty() {
            true => {
                let own = binds.iter().map(|bind| bind.address).collect();
                Resolvers::file(RESOLV_CONF.into(), own)
            }
            false => Resolvers::given(self.config.resolvers.clone()),
        };
        dns::start(
            binds,
            self.xds.clone(),
            resolvers,
            &self.metrics,
            &self.tasks,
        )
        .await?;
        Ok(())
    }

    /// The last step. A pure client, without ports, is registered too: so the control plane knows whose policy it is asked
    /// for.
    pub(super) fn register(self, mesh: Mesh, drain: Drain) -> Parts {
        let health = health::start(&self.config.workload.ports, &self.tasks);
        let settings = registration::Settings {
            controllers: self.controllers,
            config: Arc::clone(&self.config),
            mesh,
            told: (mesh == Mesh::Native).then(|| self.xds.snapshots().clone()),
        };
        let registration = registration::start(settings, self.identity, health, &self.tasks);
        info!(workload = %self.config.workload.node(), version = env!("CARGO_PKG_VERSION"), "started");
        Parts {
            config: self.config,
            drain,
            drain_asked: self.drain_asked,
            registration,
            readiness: self.readiness,
            tasks: self.tasks,
            endings: self.endings,
        }
    }
}

fn workload(config: &Config) -> Workload {
    Workload {
        namespace: config.workload.namespace.to_string(),
        name: config.workload.name.to_string(),
        locality: config.workload.locality.clone(),
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
        workload: workload(config),
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
