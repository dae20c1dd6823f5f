//! One workload beside the process: its identity, its conversation with the control plane, its health, its registration.

use super::join::{join, join_among_others};
use crate::admin;
use crate::config::Config;
use crate::controllers::Controllers;
use crate::identity::{self, Identity, Joining};
use crate::metrics::Metrics;
use crate::registration::{self, Registration};
use crate::snapshot::{Directory, Snapshot};
use crate::supervise::Tasks;
use crate::xds::{self, Xds};
use crate::{files, health};
use anyhow::Context;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::info;
use xds_api::maille::v1::Mesh;

/// What has been started for it.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) config: Arc<Config>,
    pub(super) controllers: Controllers,
    pub(super) identity: Identity,
    pub(super) xds: Xds,
    /// Carry its name where there are several.
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
}

impl Member {
    /// The only one: its end is the process's.
    pub(super) fn start(
        config: Arc<Config>,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        files::private_directory(&config.data_directory).context("dataDir")?;
        let (token, controllers) = join(&config)?;
        let joining = Joining::Once(token);
        Self::start_joining(config, joining, controllers, metrics, tasks)
    }

    /// One of several.
    pub(super) fn start_among_others(
        config: Arc<Config>,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let node = config.workload.node();
        files::private_directory(&config.data_directory)
            .with_context(|| format!("dataDir of {node}"))?;
        let (joining, controllers) = join_among_others(&config).with_context(|| node.clone())?;
        let (metrics, tasks) = (metrics.of_workload(&node), tasks.of_workload(&node));
        Self::start_joining(config, joining, controllers, &metrics, &tasks)
    }

    fn start_joining(
        config: Arc<Config>,
        joining: Joining,
        controllers: Controllers,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let workload = &config.workload;
        let (publish, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let account = workload.service_account.as_ref();
        let settings = identity::Settings {
            controllers: controllers.clone(),
            joining,
            trust_domain: config.trust_domain.clone(),
            namespace: workload.namespace.to_string(),
            service_account: account.map(|account| account.as_str().to_owned()),
            workload: workload.node(),
            directory: config.data_directory.clone(),
        };
        let identity = identity::start(settings, snapshots, tasks)?;
        let settings = xds::Settings {
            controllers: controllers.clone(),
            workload: told(&config),
            directory: config.data_directory.clone(),
        };
        let xds = xds::start(settings, identity.clone(), publish, tasks);
        Ok(Self {
            config,
            controllers,
            identity,
            xds,
            metrics: metrics.clone(),
            tasks: tasks.clone(),
        })
    }

    /// `<namespace>/<name>`.
    pub(super) fn node(&self) -> String {
        self.config.workload.node()
    }

    /// What the administration's pages show of it.
    pub(super) fn shown(&self) -> admin::Workload {
        admin::Workload {
            identity: self.identity.clone(),
            xds: self.xds.clone(),
        }
    }

    /// Tells the control plane what it called.
    pub(super) fn report_loads(&self) {
        xds::report(
            self.controllers.clone(),
            told(&self.config),
            self.identity.clone(),
            self.metrics.loads().clone(),
            &self.tasks,
        );
    }

    /// Has its health asked for, and tells the control plane of it.
    pub(super) fn register(&self, mesh: Mesh) -> Registration {
        let health = health::start(&self.config.workload.ports, &self.tasks);
        let settings = registration::Settings {
            controllers: self.controllers.clone(),
            config: Arc::clone(&self.config),
            mesh,
            told: (mesh == Mesh::Native).then(|| self.xds.snapshots().clone()),
        };
        info!(workload = %self.node(), "registering");
        registration::start(settings, self.identity.clone(), health, &self.tasks)
    }
}

/// As whom it speaks with the control plane.
fn told(config: &Config) -> xds::Workload {
    xds::Workload {
        namespace: config.workload.namespace.to_string(),
        name: config.workload.name.to_string(),
        locality: config.workload.locality.clone(),
    }
}
