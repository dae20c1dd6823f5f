//! Real proxies beside a test's applications, on loopback with explicit listeners.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use xds_api::generated::maille::v1 as api;

use tokio::process::Command;
use xds_api::node::{ENVOY_AGENT, GRPC_AGENTS, NATIVE_AGENT};

use crate::account;
use crate::binaries::Binaries;
use crate::client;
use crate::cluster::{Cluster, TRUST_DOMAIN};
use crate::ports;
use crate::process::Process;
use crate::wait;

/// From its start to its readiness a proxy needs a certificate and its inbound resource; under load some seconds.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// An acknowledgement takes milliseconds; the roster is exchanged once a second.
const CLEAN_LIMIT: Duration = Duration::from_secs(15);

/// What takes a workload's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// `maille-proxy run`.
    #[default]
    Native,
    /// Envoy, with `maille-proxy agent` beside it.
    Envoy,
    /// A program with gRPC's xDS in it, which the test starts itself; here is `maille-proxy agent` beside it.
    Grpc,
}

/// What a sidecar stands beside.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is.
    pub kind: Kind,
    /// The workload's namespace.
    pub namespace: String,
    /// The workload's name; its label `app` and its service account are the same.
    pub name: String,
    /// The application's ports: name, number by which the mesh knows it, protocol, where the application listens.
    pub ports: Vec<(String, u16, String, SocketAddr)>,
    /// More labels.
    pub labels: BTreeMap<String, String>,
}

impl Plan {
    /// A workload that only calls.
    pub fn caller(namespace: &str, name: &str) -> Plan {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Plan {
            kind: Kind::Native,
            namespace,
            name,
            ports: Vec::new(),
            labels: BTreeMap::new(),
        }
    }

    /// A workload that serves one port.
    pub fn server(namespace: &str, name: &str, protocol: &str, application: SocketAddr) -> Plan {
        let port = ("main".to_owned(), 80, protocol.to_owned(), application);
        Plan {
            ports: vec![port],
            ..Plan::caller(namespace, name)
        }
    }

    /// As another kind.
    #[must_use]
    pub fn of(self, kind: Kind) -> Plan {
        Plan { kind, ..self }
    }

    /// With one more label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Plan {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// A proxy's process and where it listens.
#[derive(Debug)]
pub struct Sidecar {
    /// What it stands beside.
    pub plan: Plan,
    /// The mesh port.
    pub mesh: SocketAddr,
    /// The outbound listener.
    pub outbound: SocketAddr,
    /// The DNS listener.
    pub dns: SocketAddr,
    /// The admin port.
    pub admin: SocketAddr,
    /// Probes and metrics.
    pub metrics: SocketAddr,
    /// Its process, while it runs; of an Envoy, the agent's.
    pub process: Option<Process>,
    /// The Envoy's own, while it runs.
    pub envoy: Option<Process>,
    /// Where that has its administration.
    pub envoy_admin: SocketAddr,
    home: PathBuf,
}

impl Sidecar {
    /// Starts one with a token of its own and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn start(cluster: &Cluster, plan: Plan) -> anyhow::Result<Sidecar> {
        let mut sidecar = Sidecar::prepare(cluster, plan, |_| ()).await?;
        sidecar.restart().await?;
        sidecar.ready().await?;
        Ok(sidecar)
    }

    /// Makes its token and its configuration, which `change` may alter, and starts nothing.
    ///
    /// # Errors
    /// The token is refused, or a file cannot be written.
    pub async fn prepare(
        cluster: &Cluster,
        plan: Plan,
        change: impl Fn(&mut Value),
    ) -> anyhow::Result<Sidecar> {
        let home = cluster
            .path()
            .join(format!("proxy-{}-{}", plan.namespace, plan.name));
        std::fs::create_dir_all(&home)?;
        let token = home.join("token");
        std::fs::write(&token, cluster.token(&plan.namespace, &plan.name).await?)?;
        let [mesh, outbound, dns, admin, metrics, envoy_admin] = [(); 6].map(|()| ports::free());
        let sidecar = Sidecar {
            plan,
            mesh,
            outbound,
            dns,
            admin,
            metrics,
            process: None,
            envoy: None,
            envoy_admin,
            home,
        };
        let mut config = sidecar.config(cluster, &token);
        change(&mut config);
        std::fs::write(sidecar.file(), format!("{config:#}\n"))?;
        Ok(sidecar)
    }

    fn config(&self, cluster: &Cluster, token: &Path) -> Value {
        let xds: Vec<_> = cluster
            .controllers
            .iter()
            .map(|one| one.address("xds").to_string())
            .collect();
        let mut labels = self.plan.labels.clone();
        labels
            .entry("app".to_owned())
            .or_insert_with(|| self.plan.name.clone());
        let ports = self.plan.ports.iter().map(|(name, port, protocol, application)| {
            let health = json!({"tcp": {}, "interval": "200ms"});
            json!({"name": name, "port": port, "protocol": protocol, "application": application, "health": health})
        });
        let mut config = json!({
            "controllers": xds,
            "joinTokenFile": token,
            "dataDir": self.home.join("data"),
            "trustDomain": TRUST_DOMAIN,
            "workload": {
                "namespace": self.plan.namespace,
                "name": self.plan.name,
                "labels": labels,
                "addresses": ["127.0.0.1"],
                "ports": ports.collect::<Vec<_>>(),
            },
            "listen": {
                "outbound": [self.outbound], "mesh": [self.mesh], "dns": [self.dns],
                "admin": self.admin, "metrics": [self.metrics],
            },
            "drainDelay": "200ms",
            "drainTimeout": "5s",
        });
        if self.plan.kind == Kind::Grpc {
            config["agent"] = json!({"kind": "grpc"});
        }
        config
    }

    /// Where its configuration is.
    pub fn file(&self) -> PathBuf {
        self.home.join("proxy.yaml")
    }

    /// `<namespace>/<workload>`.
    pub fn node(&self) -> String {
        format!("{}/{}", self.plan.namespace, self.plan.name)
    }

    /// Its SPIFFE id.
    pub fn identity(&self) -> String {
        format!(
            "spiffe://{TRUST_DOMAIN}/ns/{}/sa/{}",
            self.plan.namespace, self.plan.name
        )
    }

    /// Starts its process (again): two at once would want the same ports and the same data.
    ///
    /// # Errors
    /// The one before cannot be ended, or the binary not be started.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        if let Some(before) = self.process.take() {
            before.kill().await?;
        }
        let role = match self.plan.kind {
            Kind::Native => "run",
            Kind::Envoy | Kind::Grpc => "agent",
        };
        let arguments = [role.into(), "--config".into(), self.file()];
        let name = format!("proxy-{}", self.plan.name);
        self.process = Some(Process::start(
            &name,
            &self.home,
            &Binaries::get().proxy(),
            &arguments,
        )?);
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It ends, or does not become ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let process = self.process.as_mut().context("the proxy does not run")?;
        let what = format!("the proxy of {} is ready", self.plan.name);
        let metrics = self.metrics;
        let ready = wait::until(&what, READY_LIMIT, async || {
            process.alive()?;
            let answer = client::get(metrics, "/ready").await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
            Ok::<_, anyhow::Error>(())
        });
        let outcome = ready.await;
        outcome.with_context(|| self.process.as_ref().map(Process::tail).unwrap_or_default())?;
        match self.plan.kind {
            Kind::Native => Ok(()),
            Kind::Envoy => self.envoy_ready().await,
            Kind::Grpc => {
                let bootstrap = self.bootstrap("grpc", &[]).await?;
                Ok(std::fs::write(self.grpc_bootstrap(), bootstrap)?)
            }
        }
    }

    /// What `GRPC_XDS_BOOTSTRAP` of the program names.
    pub fn grpc_bootstrap(&self) -> PathBuf {
        self.home.join("grpc.json")
    }

    /// Starts the Envoy where it does not run, and waits until it serves.
    async fn envoy_ready(&mut self) -> anyhow::Result<()> {
        if self.envoy.is_none() {
            let bootstrap = self.home.join("envoy.yaml");
            let admin = self.envoy_admin.port().to_string();
            let admin = ["--admin-port", admin.as_str()];
            std::fs::write(&bootstrap, self.bootstrap("envoy", &admin).await?)?;
            let base = self.envoy_admin.port().to_string();
            let arguments = [
                "--config-path".into(),
                bootstrap.into_os_string(),
                "--concurrency".into(),
                "1".into(),
                "--base-id".into(),
                base.into(),
                "--drain-time-s".into(),
                "5".into(),
            ];
            let name = format!("envoy-{}", self.plan.name);
            let program = Binaries::get().envoy();
            self.envoy = Some(Process::start(&name, &self.home, &program, &arguments)?);
        }
        let process = self.envoy.as_mut().context("it was started")?;
        let what = format!("the Envoy of {} is ready", self.plan.name);
        let admin = self.envoy_admin;
        let ready = wait::until(&what, READY_LIMIT, async || {
            process.alive()?;
            let answer = client::get(admin, "/ready").await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
            Ok::<_, anyhow::Error>(())
        });
        let outcome = ready.await;
        outcome.with_context(|| self.envoy.as_ref().map(Process::tail).unwrap_or_default())
    }

    /// What `maille envoy bootstrap` or `maille grpc bootstrap` prints for it.
    async fn bootstrap(&self, command: &str, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = Command::new(Binaries::get().cli())
            .args([command, "bootstrap", "--config"])
            .arg(self.file())
            .args(arguments)
            .output()
            .await?;
        let failure = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "no bootstrap: {failure}");
        Ok(output.stdout)
    }

    /// Waits until it has acknowledged all that concerns it up to a mesh index.
    ///
    /// # Errors
    /// It lags, or refuses; the error holds its last refusal.
    pub async fn clean(&self, cluster: &Cluster, index: u64) -> anyhow::Result<()> {
        let what = format!("{} has acknowledged index {index}", self.node());
        wait::until(&what, CLEAN_LIMIT, async || {
            let answer = cluster
                .any()
                .await?
                .proxies(api::ProxiesRequest {})
                .await?
                .into_inner();
            let kind = match self.plan.kind {
                Kind::Native => NATIVE_AGENT,
                Kind::Envoy => ENVOY_AGENT,
                Kind::Grpc => GRPC_AGENTS,
            };
            let own = answer
                .proxies
                .iter()
                .find(|proxy| proxy.node == self.node() && proxy.kind.starts_with(kind));
            let own = own.with_context(|| format!("not among {} proxies", answer.proxies.len()))?;
            let (through, nack) = (own.clean_through, &own.last_nack);
            ensure!(
                through >= index,
                "it is at {through}; its last refusal: `{nack}`"
            );
            Ok::<_, anyhow::Error>(())
        })
        .await
    }

    /// What counts the traffic, as text: its metrics, or the Envoy's own.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn statistics(&self) -> anyhow::Result<String> {
        match self.plan.kind {
            Kind::Native | Kind::Grpc => self.metrics().await,
            Kind::Envoy => Ok(client::get(self.envoy_admin, "/stats?usedonly").await?.body),
        }
    }

    /// Its metrics as text.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        Ok(client::get(self.metrics, "/metrics").await?.body)
    }

    /// Its resident memory in KiB.
    ///
    /// # Errors
    /// It does not run.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let pid = self
            .process
            .as_ref()
            .and_then(Process::pid)
            .context("the proxy does not run")?;
        account::memory(pid)
    }
}
