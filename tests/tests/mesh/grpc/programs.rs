//! Programs as clients and servers: their processes, and what came of their calls.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::binaries::{Binaries, Grpc};
use maille_tests::cluster::Cluster;
use maille_tests::mesh::{NAMESPACE, object};
use maille_tests::ports;
use maille_tests::process::{Process, run};
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::json;

/// A program's start and its calls' own limits.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// Registration, a health check, two pushes, and a program's start for every look.
const REACHABLE_LIMIT: Duration = Duration::from_secs(60);

/// What came of a program's calls.
#[derive(Debug, Deserialize)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    /// Answers by who gave them.
    pub(crate) servers: BTreeMap<String, u64>,
    /// Answers by whom the server saw.
    pub(crate) identities: BTreeMap<String, u64>,
    /// The first errors: `at <milliseconds> ms: <code>: <details>`.
    pub(crate) errors: Vec<String>,
}

impl Tally {
    /// Whether no call succeeded, and the first error says this.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.ok == 0
            && self
                .errors
                .first()
                .is_some_and(|first| first.contains(text))
    }

    /// What share of the answers one server gave.
    pub(crate) fn share(&self, server: &str) -> f64 {
        let given = self.servers.get(server).copied().unwrap_or_default();
        given as f64 / self.ok.max(1) as f64
    }

    /// When the first error came.
    pub(crate) fn first_error_after(&self) -> Option<Duration> {
        let text = self.errors.first()?.strip_prefix("at ")?;
        let (milliseconds, _) = text.split_once(" ms")?;
        Some(Duration::from_millis(milliseconds.parse().ok()?))
    }
}

/// A program that makes calls.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    library: Grpc,
    bootstrap: Option<PathBuf>,
    target: String,
    more: Vec<String>,
}

impl Call {
    /// By xDS, beside an agent.
    pub(crate) fn of(library: Grpc, agent: &Sidecar, target: &str) -> Call {
        Call {
            library,
            bootstrap: Some(agent.grpc_bootstrap()),
            target: target.to_owned(),
            more: Vec::new(),
        }
    }

    /// Without xDS, of an address.
    pub(crate) fn plain(library: Grpc, listen: SocketAddr) -> Call {
        Call {
            library,
            bootstrap: None,
            target: listen.to_string(),
            more: Vec::new(),
        }
    }

    /// With more arguments, as a line.
    pub(crate) fn with(mut self, line: &str) -> Call {
        self.more.extend(line.split_whitespace().map(str::to_owned));
        self
    }

    /// Runs the program once.
    pub(crate) async fn make(&self) -> anyhow::Result<Tally> {
        #[derive(Deserialize)]
        struct Line {
            tally: Tally,
        }
        let mut role = vec!["call".to_owned(), "--target".into(), self.target.clone()];
        role.extend(self.more.iter().cloned());
        let (program, arguments) = command(self.library, self.bootstrap.as_deref(), &role);
        let finished = run(&program, &arguments, CALL_LIMIT).await?;
        let line: Line =
            serde_json::from_str(&finished.out).with_context(|| format!("{finished:?}"))?;
        Ok(line.tally)
    }
}

/// Makes calls until what came of them is as it should be.
pub(crate) async fn until(
    call: &Call,
    what: &str,
    good: impl Fn(&Tally) -> bool,
) -> anyhow::Result<Tally> {
    let what = format!("a call of {} {what}", call.target);
    wait::until(&what, REACHABLE_LIMIT, async || {
        let tally = call.make().await?;
        ensure!(good(&tally), "{tally:?}");
        Ok::<_, anyhow::Error>(tally)
    })
    .await
}

/// What a program calls to reach port 80 of a service.
pub(crate) fn target(service: &str) -> String {
    format!("xds:///{service}.{NAMESPACE}.mesh:80")
}

/// A workload that serves gRPC.
pub(crate) fn plan(name: &str, kind: Kind) -> Plan {
    let at = ports::free();
    let mut plan = Plan::server(NAMESPACE, name, "grpc", at).of(kind);
    if kind == Kind::Grpc {
        // Nothing stands before it: the mesh knows it by its own port.
        plan.ports[0].1 = at.port();
    }
    plan
}

/// A service of those with a label.
pub(crate) fn service(name: &str, (key, value): (&str, &str)) -> String {
    let port = json!({"name": "main", "port": 80, "targetPort": "main", "appProtocol": "grpc"});
    object(
        "Service",
        name,
        &json!({"selector": {key: value}, "ports": [port]}),
    )
}

/// A server, what stands before it, and itself.
pub(crate) struct Server {
    sidecar: Sidecar,
    _program: Process,
}

impl Server {
    /// One with a service of the same name, whose port 80 it serves.
    pub(crate) async fn start(
        cluster: &Cluster,
        plan: Plan,
        library: Grpc,
    ) -> anyhow::Result<Server> {
        let (name, kind, at) = (plan.name.clone(), plan.kind, plan.ports[0].3.to_string());
        let sidecar = Sidecar::start(cluster, plan).await?;
        let bootstrap = (kind == Kind::Grpc).then(|| sidecar.grpc_bootstrap());
        let role = ["serve", "--listen", &at, "--name", &name].map(str::to_owned);
        let (program, arguments) = command(library, bootstrap.as_deref(), &role);
        let program = Process::start(
            &format!("program-{name}"),
            cluster.path(),
            &program,
            &arguments,
        )?;
        cluster.apply(&service(&name, ("app", &name))).await?;
        Ok(Server {
            sidecar,
            _program: program,
        })
    }

    /// Lets nobody of this identity in any more.
    pub(crate) async fn deny(&self, cluster: &Cluster, identity: &str) -> anyhow::Result<()> {
        let name = &self.sidecar.plan.name;
        let spec = json!({
            "selector": {"matchLabels": {"app": name}},
            "action": "Deny",
            "rules": [{"from": [{"identities": [identity]}]}],
        });
        cluster
            .apply(&object("AuthorizationPolicy", name, &spec))
            .await?;
        Ok(())
    }
}

/// A program that notes every change of the digits behind a mark in what it was told by xDS.
pub(crate) struct Watcher {
    pub(crate) agent: Sidecar,
    process: Process,
    /// How much of what it printed has been taken.
    taken: usize,
}

impl Watcher {
    /// One beside an agent of its own.
    pub(crate) async fn start(
        cluster: &Cluster,
        name: &str,
        library: Grpc,
        (target, mark): (&str, &str),
    ) -> anyhow::Result<Watcher> {
        let plan = Plan::caller(NAMESPACE, name).of(Kind::Grpc);
        let agent = Sidecar::start(cluster, plan).await?;
        let role = ["watch", "--target", target, "--mark", mark].map(str::to_owned);
        let (program, arguments) = command(library, Some(&agent.grpc_bootstrap()), &role);
        let process = Process::start(name, cluster.path(), &program, &arguments)?;
        Ok(Watcher {
            agent,
            process,
            taken: 0,
        })
    }

    /// Sends the program a signal; its agent goes on.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// What it has noted since the last look.
    pub(crate) fn marks(&mut self) -> anyhow::Result<Vec<u64>> {
        self.process.alive()?;
        let log = self.process.log();
        let end = log.rfind('\n').map_or(0, |at| at + 1);
        let new = log.get(self.taken..end).unwrap_or_default();
        let digits = new.lines().filter_map(|line| line.strip_prefix("mark "));
        let marks = digits.map(str::parse).collect::<Result<_, _>>()?;
        self.taken = end;
        Ok(marks)
    }
}

fn command(library: Grpc, bootstrap: Option<&Path>, role: &[String]) -> (PathBuf, Vec<OsString>) {
    let (program, mut arguments) = Binaries::get().grpc(library);
    if let Some(file) = bootstrap {
        arguments.extend(["--bootstrap".into(), file.into()]);
    }
    arguments.extend(role.iter().map(OsString::from));
    (program, arguments)
}
