//! The parts that sidecar and agent have in common: identity, what the control plane tells, DNS, registration, administration.

use super::member::Member;
use super::shutdown::Parts;
use crate::admin::{self, Admin, Scope, Workloads};
use crate::config::{Bind, Config};
use crate::dns::{self, Resolvers};
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::supervise::{Endings, Readiness, Tasks, tasks};
use crate::telemetry::LogLevel;
use anyhow::Context;
use std::sync::Arc;
use tokio::sync::Notify;
use tracing::info;
use xds_api::maille::v1::Mesh;

/// Where the system keeps its resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What has been started.
pub(super) struct Common {
    /// What the process has once, whichever its workloads are.
    pub(super) config: Arc<Config>,
    /// At least one.
    pub(super) members: Vec<Member>,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
    readiness: Readiness,
    drain_asked: Arc<Notify>,
    endings: Endings,
}

impl Common {
    /// One workload: identity first, then the conversation with the control plane, then what is shown of both. Where there
    /// is no way to an identity there is no use in going on.
    pub(super) fn start_one(
        config: Config,
        log: LogLevel,
        readiness: Readiness,
    ) -> anyhow::Result<Self> {
        let (tasks, endings) = tasks();
        let metrics = Metrics::new();
        let configuration = config.resolved();
        let config = Arc::new(config);
        let member = Member::start(config.clone(), &metrics, &tasks)?;
        let common = Self {
            config,
            members: vec![member.clone()],
            metrics,
            tasks,
            readiness,
            drain_asked: Arc::default(),
            endings,
        };
        common.start_admin(Workloads::One(member.shown()), configuration, log)?;
        Ok(common)
    }

    /// Several workloads. One that gets no identity leaves the others alone.
    pub(super) fn start_several(
        configs: Vec<Config>,
        configuration: String,
        log: LogLevel,
        readiness: Readiness,
    ) -> anyhow::Result<Self> {
        let (tasks, endings) = tasks();
        let metrics = Metrics::new();
        let start = |config| Member::start_among_others(Arc::new(config), &metrics, &tasks);
        let members: Vec<Member> = configs
            .into_iter()
            .map(start)
            .collect::<anyhow::Result<_>>()?;
        let first = members.first().context("no workload is named")?;
        let shown = members.iter().map(|member| (member.node(), member.shown()));
        let shown = Workloads::Several(shown.collect());
        let common = Self {
            config: first.config.clone(),
            members,
            metrics,
            tasks,
            readiness,
            drain_asked: Arc::default(),
            endings,
        };
        common.start_admin(shown, configuration, log)?;
        Ok(common)
    }

    fn start_admin(
        &self,
        workloads: Workloads,
        configuration: String,
        log: LogLevel,
    ) -> anyhow::Result<()> {
        let admin = Arc::new(Admin {
            readiness: self.readiness.clone(),
            metrics: self.metrics.clone(),
            log,
            workloads,
            configuration,
            drain: Arc::clone(&self.drain_asked),
        });
        let listen = &self.config.listen;
        let loopback = [Bind {
            address: listen.admin,
            required: true,
        }];
        let (tasks, everywhere) = (&self.tasks, &listen.metrics);
        admin::bind("listen.admin", &loopback, Scope::Loopback, &admin, tasks)?;
        admin::bind(
            "listen.metrics",
            everywhere,
            Scope::Everywhere,
            &admin,
            tasks,
        )?;
        Ok(())
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
        let told = self.members.iter().map(|member| member.xds.clone());
        dns::start(binds, told.collect(), resolvers, &self.metrics, &self.tasks).await?;
        Ok(())
    }

    /// The last step. A pure client, without ports, is registered too: so the control plane knows whose policy it is asked
    /// for.
    pub(super) fn register(self, mesh: Mesh, drain: Drain) -> Parts {
        let registrations = self.members.iter().map(|member| member.register(mesh));
        let registrations = registrations.collect();
        info!(version = env!("CARGO_PKG_VERSION"), "started");
        Parts {
            config: self.config,
            drain,
            drain_asked: self.drain_asked,
            registrations,
            readiness: self.readiness,
            tasks: self.tasks,
            endings: self.endings,
        }
    }
}
