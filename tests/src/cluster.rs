//! Clusters of real controllers: each a process with its configuration file, its directory and its ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use xds_api::generated::maille::v1 as api;

use crate::admin::{Client, Credentials};
use crate::binaries::Binaries;
use crate::client;
use crate::ports;
use crate::process::{self, Process};
use crate::wait;

/// The trust domain of every test's mesh.
pub const TRUST_DOMAIN: &str = "mesh.test";
/// Founding takes about a second; other tests may hold both cores.
pub const FOUNDING_LIMIT: Duration = Duration::from_secs(30);
/// Ending by SIGTERM hands leadership over and flushes.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// `init` makes three keys.
const INIT_LIMIT: Duration = Duration::from_secs(20);

/// One controller.
#[derive(Debug)]
pub struct Controller {
    /// Its name.
    pub name: String,
    /// Its configuration as written to its file.
    pub config: Value,
    /// Its process, while it runs.
    pub process: Option<Process>,
}

impl Controller {
    /// An address that it listens at: `xds`, `peers`, `admin` or `health`.
    ///
    /// # Panics
    /// Where the configuration has none of that name.
    pub fn address(&self, port: &str) -> SocketAddr {
        let text = self.config["listen"][port]
            .as_str()
            .expect("every listener is written out");
        text.parse().expect("listeners are written as ip:port")
    }

    /// Its data directory.
    ///
    /// # Panics
    /// Where the configuration has none.
    pub fn data(&self) -> PathBuf {
        self.config["dataDir"]
            .as_str()
            .expect("the data directory is written out")
            .into()
    }
}

/// A cluster and its directory; all of it goes when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The controllers, running or not.
    pub controllers: Vec<Controller>,
    /// The administrator.
    pub credentials: Credentials,
    directory: TempDir,
}

impl Cluster {
    /// Makes secrets and configurations for `size` controllers; `change` may alter each one's configuration. Starts nothing.
    ///
    /// # Errors
    /// `maille-controller init` fails.
    pub async fn prepare(size: usize, change: impl Fn(&mut Value)) -> anyhow::Result<Cluster> {
        Cluster::prepare_with(size, change, &[]).await
    }

    /// The same for a cluster that a snapshot is restored into: with the key-encryption key of the old secrets.
    ///
    /// # Errors
    /// `maille-controller init` fails.
    pub async fn prepare_keeping(size: usize, secrets: &Path) -> anyhow::Result<Cluster> {
        let more = [
            "--keep-kek-of".to_owned(),
            secrets.to_string_lossy().into_owned(),
        ];
        Cluster::prepare_with(size, |_| (), &more).await
    }

    async fn prepare_with(
        size: usize,
        change: impl Fn(&mut Value),
        more: &[String],
    ) -> anyhow::Result<Cluster> {
        let directory = tempfile::Builder::new().prefix("maille-test-").tempdir()?;
        let ports: Vec<[SocketAddr; 4]> =
            (0..size).map(|_| [(); 4].map(|()| ports::free())).collect();
        let endpoints: Vec<String> = ports.iter().map(|ports| ports[2].to_string()).collect();
        init(directory.path(), &endpoints, more).await?;
        let peers: Vec<String> = ports.iter().map(|ports| ports[1].to_string()).collect();
        let mut cluster = Cluster {
            controllers: Vec::new(),
            credentials: Credentials::load(&directory.path().join("admin"))?,
            directory,
        };
        for (index, ports) in ports.iter().enumerate() {
            let mut config = cluster.config(&format!("c{}", index + 1), ports);
            config["peers"] = json!(peers);
            config["bootstrapExpect"] = json!(size);
            change(&mut config);
            cluster.add(config)?;
        }
        Ok(cluster)
    }

    /// Founds a cluster of `size` with the defaults.
    ///
    /// # Errors
    /// It does not come about.
    pub async fn found(size: usize) -> anyhow::Result<Cluster> {
        Cluster::found_with(size, |_| ()).await
    }

    /// Founds a cluster of `size`.
    ///
    /// # Errors
    /// It does not come about.
    pub async fn found_with(size: usize, change: impl Fn(&mut Value)) -> anyhow::Result<Cluster> {
        let mut cluster = Cluster::prepare(size, change).await?;
        for index in 0..size {
            cluster.start(index)?;
        }
        cluster.ready().await?;
        Ok(cluster)
    }

    /// A configuration of this cluster without anything about founding or joining.
    fn config(&self, name: &str, ports: &[SocketAddr; 4]) -> Value {
        json!({
            "name": name,
            "dataDir": self.path().join(name),
            "secrets": self.path().join("secrets"),
            "trustDomain": TRUST_DOMAIN,
            "listen": {"xds": ports[0], "peers": ports[1], "admin": ports[2], "health": ports[3]},
            "log": {"level": "info"},
        })
    }

    fn add(&mut self, config: Value) -> anyhow::Result<usize> {
        let name = config["name"]
            .as_str()
            .context("a controller has a name")?
            .to_owned();
        std::fs::write(self.config_file(&name), format!("{config:#}\n"))?;
        self.controllers.push(Controller {
            name,
            config,
            process: None,
        });
        Ok(self.controllers.len() - 1)
    }

    /// Adds one that joins by a token, not started yet. Answers its index.
    ///
    /// # Errors
    /// The token is refused, or a file cannot be written.
    pub async fn join(&mut self, name: &str) -> anyhow::Result<usize> {
        let request = api::CreateTokenRequest {
            purpose: api::create_token_request::Purpose::Controller.into(),
            client: format!("join-{name}"),
            sequence: 1,
            ..Default::default()
        };
        let token = self
            .any()
            .await?
            .create_token(request)
            .await?
            .into_inner()
            .token;
        let file = self.path().join(format!("{name}.token"));
        std::fs::write(&file, token)?;
        let mut config = self.config(name, &[(); 4].map(|()| ports::free()));
        let peers = self
            .controllers
            .iter()
            .map(|other| other.address("peers").to_string());
        config["peers"] = json!(peers.collect::<Vec<_>>());
        config["joinTokenFile"] = json!(file);
        // A host of its own: it has the token and nothing else.
        config["secrets"] = json!(self.path().join(format!("{name}.secrets")));
        self.add(config)
    }

    /// The directory of everything that belongs to the cluster.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where a controller's configuration is.
    pub fn config_file(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.yaml"))
    }

    /// Starts one.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn start(&mut self, index: usize) -> anyhow::Result<()> {
        self.start_as(index, &Binaries::get().controller())
    }

    /// Starts one with another binary.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn start_as(&mut self, index: usize, binary: &Path) -> anyhow::Result<()> {
        let name = self.controllers[index].name.clone();
        let arguments = ["run".into(), "--config".into(), self.config_file(&name)];
        let process = Process::start(&name, self.directory.path(), binary, &arguments)?;
        self.controllers[index].process = Some(process);
        Ok(())
    }

    /// Starts one so that a crash leaves its core file in the cluster's directory, as far as the kernel's `core_pattern` is plain.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_dumping(&mut self, index: usize) -> anyhow::Result<()> {
        let name = self.controllers[index].name.clone();
        let script = "cd \"$1\" && ulimit -c unlimited && exec \"$2\" run --config \"$3\"";
        let binary = Binaries::get().controller();
        let file = self.config_file(&name);
        let arguments: [&std::ffi::OsStr; 6] = [
            "-c".as_ref(),
            script.as_ref(),
            "sh".as_ref(),
            self.path().as_ref(),
            binary.as_ref(),
            file.as_ref(),
        ];
        let process = Process::start(&name, self.path(), Path::new("/bin/sh"), &arguments)?;
        self.controllers[index].process = Some(process);
        Ok(())
    }

    /// Kills one as `kill -9` does.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        let process = self.controllers[index].process.take();
        process.context("the controller does not run")?.kill().await
    }

    /// Ends one in good order.
    ///
    /// # Errors
    /// It does not run, or does not end with success.
    pub async fn stop(&mut self, index: usize) -> anyhow::Result<()> {
        let process = self.controllers[index].process.take();
        let status = process
            .context("the controller does not run")?
            .stop(STOP_LIMIT)
            .await?;
        ensure!(
            status.success(),
            "{} ended with {status}",
            self.controllers[index].name
        );
        Ok(())
    }

    /// A client of one controller.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn admin(&self, index: usize) -> anyhow::Result<Client> {
        self.credentials
            .connect(self.controllers[index].address("admin"))
            .await
    }

    /// The indices of those that run.
    pub fn running(&self) -> Vec<usize> {
        let runs = |index: &usize| self.controllers[*index].process.is_some();
        (0..self.controllers.len()).filter(runs).collect()
    }

    /// A client of the first that runs and answers.
    ///
    /// # Errors
    /// None can be reached.
    pub async fn any(&self) -> anyhow::Result<Client> {
        for index in self.running() {
            if let Ok(client) = self.admin(index).await {
                return Ok(client);
            }
        }
        bail!("no controller can be reached")
    }

    /// What one says of itself.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn status(&self, index: usize) -> anyhow::Result<api::StatusResponse> {
        let mut client = self.admin(index).await?;
        Ok(client.status(api::StatusRequest {}).await?.into_inner())
    }

    /// What each that runs says of itself, once all answer.
    ///
    /// # Errors
    /// One cannot be reached, or has ended.
    pub async fn statuses(&mut self) -> anyhow::Result<Vec<api::StatusResponse>> {
        let mut all = Vec::new();
        for index in self.running() {
            if let Some(process) = &mut self.controllers[index].process {
                process.alive()?;
            }
            all.push(self.status(index).await?);
        }
        Ok(all)
    }

    /// Waits until all that run follow one leader, are unsealed and have applied everything. Answers the leader's index.
    ///
    /// # Errors
    /// It does not come about, or one ends.
    pub async fn ready(&mut self) -> anyhow::Result<usize> {
        let what = "every controller follows one leader and has applied all";
        let limit = FOUNDING_LIMIT;
        let name = wait::until(what, limit, async || {
            let all = self.statuses().await?;
            let committed = all
                .iter()
                .map(|status| status.committed)
                .max()
                .unwrap_or_default();
            let leader = all
                .first()
                .map(|status| status.leader.clone())
                .unwrap_or_default();
            let settled = |status: &api::StatusResponse| {
                status.leader == leader && status.applied >= committed && !status.sealed
            };
            let good = committed > 0 && !leader.is_empty() && all.iter().all(settled);
            ensure!(good, "{}", brief(&all));
            for index in self.running() {
                let health = self.controllers[index].address("health");
                let answer = client::get(health, "/ready").await?;
                ensure!(answer.status == 200, "/ready answers: {}", answer.body);
            }
            Ok::<_, anyhow::Error>(leader)
        })
        .await?;
        let index = self
            .controllers
            .iter()
            .position(|controller| controller.name == name);
        index.with_context(|| format!("`{name}` leads and is none of ours"))
    }

    /// Waits until all that run have the same mesh at the same index; answers the hash.
    ///
    /// # Errors
    /// It does not come about.
    pub async fn agreed(&mut self) -> anyhow::Result<String> {
        let what = "every controller has the same mesh";
        wait::until(what, FOUNDING_LIMIT, async || {
            let all = self.statuses().await?;
            let view = |status: &api::StatusResponse| {
                let index = status
                    .state
                    .as_ref()
                    .map(|state| (state.index, state.incarnation));
                (
                    index,
                    status.mesh_hash.clone(),
                    status.resource_hashes.clone(),
                )
            };
            let first = all.first().map(view).context("none runs")?;
            ensure!(
                all.iter().all(|status| view(status) == first),
                "{}",
                brief(&all)
            );
            Ok::<_, anyhow::Error>(first.1)
        })
        .await
    }

    /// Writes objects through one controller; answers the mesh index.
    ///
    /// # Errors
    /// They are refused.
    pub async fn apply_at(&self, index: usize, yaml: &str) -> anyhow::Result<u64> {
        apply(&mut self.admin(index).await?, yaml).await
    }

    /// Writes objects through any controller; answers the mesh index.
    ///
    /// # Errors
    /// They are refused.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<u64> {
        apply(&mut self.any().await?, yaml).await
    }

    /// Makes a workload's join token.
    ///
    /// # Errors
    /// It is refused.
    pub async fn token(&self, namespace: &str, account: &str) -> anyhow::Result<String> {
        let request = api::CreateTokenRequest {
            purpose: api::create_token_request::Purpose::Workload.into(),
            namespace: namespace.into(),
            service_account: account.into(),
            client: writer(),
            sequence: 1,
            ..Default::default()
        };
        Ok(self
            .any()
            .await?
            .create_token(request)
            .await?
            .into_inner()
            .token)
    }

    /// Runs the CLI against the cluster.
    ///
    /// # Errors
    /// It cannot be started, or hangs.
    pub async fn cli(&self, arguments: &[&str]) -> anyhow::Result<process::Finished> {
        let directory = self.credentials.directory().to_string_lossy().into_owned();
        let all: Vec<&str> = ["--admin", &directory]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        process::run(&Binaries::get().cli(), &all, Duration::from_secs(60)).await
    }
}

/// A writer's name that no other has.
pub fn writer() -> String {
    format!("test-{:032x}", rand::random::<u128>())
}

/// Writes objects; answers the mesh index.
///
/// # Errors
/// They are refused; the error holds every problem.
pub async fn apply(client: &mut Client, yaml: &str) -> anyhow::Result<u64> {
    apply_as(client, (&writer(), 1), yaml).await
}

/// Writes objects as this writer's change of this number: however often and wherever it is tried, it is made once, and never after a later one of
/// the writer's.
///
/// # Errors
/// They are refused; the error holds every problem.
pub async fn apply_as(
    client: &mut Client,
    (writer, number): (&str, u64),
    yaml: &str,
) -> anyhow::Result<u64> {
    let request = api::ApplyRequest {
        documents: vec![api::Document {
            file: "test.yaml".into(),
            text: yaml.into(),
        }],
        client: writer.into(),
        sequence: number,
        ..Default::default()
    };
    let answer = client
        .apply(request)
        .await
        .with_context(|| format!("applying\n{yaml}"))?;
    Ok(answer.into_inner().index)
}

/// Makes a cluster's secrets and its first administrator's directory under `directory`.
///
/// # Errors
/// `maille-controller init` refuses.
pub async fn init(directory: &Path, endpoints: &[String], more: &[String]) -> anyhow::Result<()> {
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let mut arguments = vec![
        "init".to_owned(),
        "--trust-domain".into(),
        TRUST_DOMAIN.into(),
    ];
    arguments.extend([
        "--secrets".into(),
        path("secrets"),
        "--admin-dir".into(),
        path("admin"),
    ]);
    arguments.extend(
        endpoints
            .iter()
            .flat_map(|endpoint| ["--endpoint".into(), endpoint.clone()]),
    );
    arguments.extend_from_slice(more);
    let done = process::run(&Binaries::get().controller(), &arguments, INIT_LIMIT).await?;
    ensure!(
        done.code == Some(0),
        "init failed: {}{}",
        done.out,
        done.err
    );
    Ok(())
}

fn brief(all: &[api::StatusResponse]) -> String {
    let one = |status: &api::StatusResponse| {
        let state = status.state.clone().unwrap_or_default();
        format!(
            "{}: leader `{}` term {} log {} committed {} applied {} index {} hash {:.8}{}",
            state.controller,
            status.leader,
            status.term,
            status.last_log,
            status.committed,
            status.applied,
            state.index,
            status.mesh_hash,
            if status.sealed { " sealed" } else { "" },
        )
    };
    all.iter().map(one).collect::<Vec<_>>().join("; ")
}
