//! What there is before the first stream: three controllers, a service, and Envoys that are started once.

use std::path::PathBuf;

use anyhow::Context;
use maille_tests::account;
use maille_tests::cluster::Cluster;
use maille_tests::identity;
use maille_tests::process::Process;
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The controller at which all streams are.
pub(crate) const TARGET: usize = 0;

pub(crate) struct Setting {
    pub(crate) cluster: Cluster,
    pub(crate) envoys: Vec<Sidecar>,
    /// The generators' certificate.
    pub(crate) identity: PathBuf,
    changes: usize,
}

impl Setting {
    pub(crate) async fn prepare(envoys: usize) -> anyhow::Result<Setting> {
        let cluster = Cluster::found(3).await?;
        let identity = cluster.path().join("generator.json");
        identity::obtain(&cluster, "bench", "client")
            .await?
            .save(&identity)?;
        let mut setting = Setting {
            cluster,
            envoys: Vec::new(),
            identity,
            changes: 0,
        };
        setting.change().await?;
        setting.cluster.apply(SERVICE).await?;
        for number in 0..envoys {
            let plan = Plan::caller("bench", &format!("envoy-{number}")).of(Kind::Envoy);
            setting
                .envoys
                .push(Sidecar::start(&setting.cluster, plan).await?);
        }
        Ok(setting)
    }

    /// The workload behind the service gets another address; answers the mesh index.
    pub(crate) async fn change(&mut self) -> anyhow::Result<u64> {
        self.changes += 1;
        self.cluster.apply(&backend(self.changes)).await
    }

    /// The process at which all streams are.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let process = self.cluster.controllers[TARGET].process.as_ref();
        process.and_then(Process::pid).context("it does not run")
    }

    /// Its resident memory, KiB.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        account::memory(self.pid()?)
    }
}

/// Each stream is a file here, at the controller, and at its generator; they inherit the limit.
pub(crate) fn raise_open_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("raising the limit of open files")
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {namespace: bench, name: app}
spec:
  selector: {app: app}
  ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}]
";

/// A workload without a sidecar, at another address each time.
fn backend(change: usize) -> String {
    let (high, low) = (change / 250, change % 250 + 1);
    format!(
        "
apiVersion: maille.dev/v1alpha1
kind: Workload
metadata: {{namespace: bench, name: app, labels: {{app: app}}}}
spec: {{addresses: [\"127.9.{high}.{low}\"]}}
"
    )
}
