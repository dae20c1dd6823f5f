//! A workload of the demo: its namespace's rules, its sidecar, its application.

pub(super) mod envoy;
pub(super) mod program;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use xds_api::generated::maille::v1 as api;

use crate::args::dev::Family;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::sibling;

use super::app::secure;
use super::demo::{BANNER_DIRECT, Kind, NAMESPACE, SECURE, TRUST_DOMAIN, Workload};
use super::layout::{CONTROLLERS, Layout, Use};
use super::namespaces::HUB;
use super::process::{App, Launch, Launcher, Process};
use super::run_directory::RunDirectory;

use envoy::Envoy;
use program::Program;

/// The user that sidecars run as: their traffic is the one that is not redirected.
const PROXY_UID: u32 = 2740;
/// A sidecar is ready once it has a certificate and its inbound resource.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// A drain lasts as long as the longest request; the demo's are short.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// What sidecars need of the run.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) run: RunDirectory,
    pub(crate) layout: Layout,
    pub(crate) launcher: Launcher,
    /// What the applications' own TLS is made with.
    pub(crate) certificate: PathBuf,
    proxy: PathBuf,
    init: PathBuf,
    envoy: Option<PathBuf>,
    program: Option<Program>,
}

/// A running sidecar.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) workload: Workload,
    launch: Launch,
    /// Of an Envoy, the agent beside it.
    process: Option<Process>,
    envoy: Option<Envoy>,
}

impl Ground {
    /// Finds the binaries and puts the sidecars' where their user may run them.
    pub(crate) fn new(
        run: &RunDirectory,
        layout: &Layout,
        launcher: &Launcher,
        (envoy, python): (Option<&Path>, Option<&Path>),
    ) -> Outcome<Ground> {
        let proxy = reachable(run, &sibling::binary("maille-proxy")?)?;
        let envoy = envoy.map(|envoy| reachable(run, envoy)).transpose()?;
        let certificate = run.write("application.pem", &secure::certificate()?)?;
        let init = sibling::binary("maille-init")?;
        Ok(Ground {
            run: run.clone(),
            layout: layout.clone(),
            launcher: launcher.clone(),
            certificate,
            proxy,
            init,
            envoy,
            program: python
                .map(|python| Program::place(python, run))
                .transpose()?,
        })
    }

    /// Sets the redirection of a workload's namespace.
    pub(crate) async fn redirect(&self, workload: &Workload) -> Outcome {
        // A program with gRPC's xDS connects and listens by itself.
        if !self.layout.namespaces() || workload.kind == Kind::Grpc {
            return Ok(());
        }
        let ports = workload
            .ports
            .iter()
            .map(|port| port.number.to_string())
            .collect::<Vec<_>>()
            .join(",");
        let mut arguments = ["--mode", "host", "--dns", "servers", "--proxy-uid"]
            .map(OsString::from)
            .to_vec();
        arguments.push(PROXY_UID.to_string().into());
        if !ports.is_empty() {
            arguments.extend(["--inbound-ports".into(), ports.into()]);
        }
        let name = format!("init-{}", workload.name);
        let launch = Launch {
            name,
            host: workload.name.into(),
            uid: None,
            program: self.init.clone(),
            arguments,
        };
        self.launcher.run(&launch).await.map(drop)
    }

    /// Writes a sidecar's configuration, with a token of its own, and starts it.
    pub(crate) async fn sidecar(&self, workload: &Workload, cluster: &Cluster) -> Outcome<Sidecar> {
        let home = self.run.path().join(workload.name);
        let token = self.run.write(
            &format!("{}/token", workload.name),
            &self.token(workload, cluster).await?,
        )?;
        let config = self.run.write(
            &format!("{}/proxy.yaml", workload.name),
            &format!("{:#}\n", self.config(workload, &home, &token)),
        )?;
        let namespaces = self.layout.namespaces();
        if namespaces {
            give(&home)?;
            give(&token)?;
        }
        let secret = std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o400));
        secret.map_err(|error| {
            Failure::failed(format!("protect {}", token.display())).caused_by(error)
        })?;
        let role = match workload.kind {
            Kind::Native => "run",
            Kind::Envoy | Kind::Grpc => "agent",
        };
        let launch = Launch {
            name: format!("{}-proxy", workload.name),
            host: workload.name.into(),
            uid: namespaces.then_some(PROXY_UID),
            program: self.proxy.clone(),
            arguments: [role.into(), "--config".into(), config.clone().into()].to_vec(),
        };
        let envoy = match workload.kind {
            Kind::Native => None,
            Kind::Envoy => Some(self.beside(workload, &config).await?),
            Kind::Grpc => {
                self.tell(workload, &config).await?;
                None
            }
        };
        let mut sidecar = Sidecar {
            workload: *workload,
            launch,
            process: None,
            envoy,
        };
        sidecar.start(&self.launcher)?;
        Ok(sidecar)
    }

    async fn token(&self, workload: &Workload, cluster: &Cluster) -> Outcome<String> {
        let request = api::CreateTokenRequest {
            purpose: api::create_token_request::Purpose::Workload.into(),
            namespace: NAMESPACE.into(),
            service_account: workload.account.into(),
            lifetime_seconds: 0,
            client: format!("{}-{}", cluster.writer(), workload.name),
            sequence: 1,
        };
        let answer = cluster
            .call(async |mut client| Ok(client.create_token(request.clone()).await?.into_inner()))
            .await;
        Ok(answer
            .map_err(|status| {
                Failure::from_status(
                    &format!("create a token for {}", workload.name),
                    &status,
                    &[],
                )
            })?
            .token)
    }

    fn config(&self, workload: &Workload, home: &Path, token: &Path) -> Value {
        let labels = workload
            .labels
            .iter()
            .map(|(key, value)| (key.to_string(), json!(value)))
            .collect::<serde_json::Map<_, _>>();
        let ports = workload.ports.iter().map(|port| {
            let mut value = json!({"name": port.name, "port": port.number, "protocol": port.protocol, "health": {"tcp": {}, "interval": "1s"}});
            let application = self.layout.application(workload, port.number);
            if workload.kind == Kind::Grpc {
                value["port"] = json!(application.port());
            } else if !self.layout.namespaces() {
                value["application"] = json!(application.to_string());
            }
            value
        });
        let mut config = json!({
            "controllers": CONTROLLERS.map(|member| self.layout.controller(member, Use::Xds).to_string()),
            "joinTokenFile": token,
            "dataDir": home.join("data"),
            "trustDomain": TRUST_DOMAIN,
            "workload": {
                "namespace": NAMESPACE, "name": workload.name, "labels": labels,
                "addresses": self.layout.addresses(workload), "ports": ports.collect::<Vec<_>>(),
            },
            "drainTimeout": "5s",
        });
        if workload.kind == Kind::Grpc {
            config["agent"] = json!({"kind": "grpc"});
        }
        if !self.layout.namespaces() {
            let listen = |usage| self.layout.sidecar(workload, usage).to_string();
            config["listen"] = json!({
                "outbound": [], "dns": [], "mesh": [listen(Use::Mesh)], "admin": listen(Use::Admin), "metrics": [listen(Use::Metrics)],
            });
        }
        config
    }

    /// Waits until a sidecar is ready: of an Envoy, first the agent, and then what is started once that is.
    pub(crate) async fn ready(&self, sidecar: &mut Sidecar) -> Outcome {
        let workload = sidecar.workload;
        let address = self.layout.sidecar(&workload, Use::Metrics);
        let waiting = self.page(HUB, address, "/ready", READY_LIMIT).await;
        waiting.map_err(|failure| sidecar.failure(&format!("is not ready: {failure}")))?;
        let Some(envoy) = &mut sidecar.envoy else {
            return Ok(());
        };
        envoy.start(&self.launcher)?;
        let address = self.layout.envoy_admin(&workload);
        let waiting = self.page(workload.name, address, "/ready", READY_LIMIT);
        let waiting = waiting.await.map(drop);
        waiting.map_err(|failure| envoy.failure(&format!("is not ready: {failure}")))
    }

    /// A sidecar's metrics; of an Envoy, its agent's.
    pub(crate) async fn metrics(&self, workload: &Workload) -> Outcome<String> {
        let address = self.layout.sidecar(workload, Use::Metrics);
        self.page(HUB, address, "/metrics", Duration::ZERO).await
    }

    async fn page(
        &self,
        host: &str,
        address: SocketAddr,
        path: &str,
        limit: Duration,
    ) -> Outcome<String> {
        let own = std::env::current_exe()
            .map_err(|error| Failure::failed("find the path of this binary").caused_by(error))?;
        let address = address.to_string();
        let limit = limit.as_secs().to_string();
        let arguments = [
            "dev-app",
            "fetch",
            "--address",
            &address,
            "--path",
            path,
            "--limit",
            &limit,
        ]
        .map(OsString::from)
        .to_vec();
        let launch = Launch {
            name: format!("fetch-{address}"),
            host: host.into(),
            uid: None,
            program: own,
            arguments,
        };
        self.launcher.run(&launch).await
    }

    /// Starts a workload's application and waits until it listens. `None` for one that has none.
    pub(crate) async fn application(&self, workload: &Workload) -> Outcome<Option<App>> {
        let Some(kind) = workload.app else {
            return Ok(None);
        };
        if workload.kind == Kind::Grpc {
            return self.serve_grpc(workload).await;
        }
        let mut arguments = vec![kind.to_string(), "--name".into(), workload.name.into()];
        let direct = (kind == "banner").then_some(BANNER_DIRECT);
        for port in workload.ports.iter().map(|port| port.number).chain(direct) {
            let flag = if port == SECURE.number {
                "--secure"
            } else {
                "--listen"
            };
            let address = self.layout.application(workload, port).to_string();
            arguments.extend([flag.into(), address]);
        }
        if kind == "api" {
            let certificate = self.certificate.display().to_string();
            arguments.extend(["--certificate".into(), certificate]);
        }
        if kind == "web" {
            let set = workload.set();
            let behind = [
                ("--api", set.api_http()),
                ("--greeter", set.greeter_grpc()),
                ("--banner", set.banner_tcp()),
            ];
            for (flag, target) in behind {
                let target = self.layout.target(workload, target, Family::V4);
                arguments.extend([flag.into(), target]);
            }
        }
        let mut app = self
            .launcher
            .app(workload.name, workload.name, &arguments)?;
        app.ready().await?;
        Ok(Some(app))
    }
}

impl Sidecar {
    /// Starts it (again); of an Envoy, the agent.
    pub(crate) fn start(&mut self, launcher: &Launcher) -> Outcome {
        self.process = Some(launcher.daemon(&self.launch)?);
        Ok(())
    }

    /// Kills it as `kill -9` does.
    pub(crate) async fn kill(&mut self) -> Outcome {
        if let Some(envoy) = &mut self.envoy {
            envoy.kill().await?;
        }
        self.kill_own().await
    }

    /// Kills what is `maille-proxy` alone: of an Envoy, the agent.
    pub(crate) async fn kill_own(&mut self) -> Outcome {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Has it drain and end.
    pub(crate) async fn drain(&mut self) -> Outcome {
        if let Some(mut process) = self.process.take() {
            process.stop(DRAIN_LIMIT).await?;
        }
        match &mut self.envoy {
            Some(envoy) => envoy.stop().await,
            None => Ok(()),
        }
    }

    fn failure(&self, what: &str) -> Failure {
        self.process
            .as_ref()
            .map_or_else(|| Failure::failed(what), |process| process.failure(what))
    }
}

/// A binary at a place where any user may run it: a checkout in a closed home directory is not one.
fn reachable(run: &RunDirectory, binary: &Path) -> Outcome<PathBuf> {
    let place = run
        .path()
        .join("bin")
        .join(binary.file_name().unwrap_or_default());
    let folder = place.parent().map_or(Ok(()), std::fs::create_dir_all);
    let placed = folder.and_then(|()| {
        std::fs::hard_link(binary, &place).or_else(|_| std::fs::copy(binary, &place).map(drop))
    });
    placed
        .map_err(|error| Failure::failed(format!("copy {}", binary.display())).caused_by(error))?;
    Ok(place)
}

fn give(path: &Path) -> Outcome {
    chown(path, Some(PROXY_UID), Some(PROXY_UID)).map_err(|error| {
        Failure::failed(format!("give {} to the sidecar", path.display())).caused_by(error)
    })
}
