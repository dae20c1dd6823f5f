//! Programs with gRPC's xDS in them (Python's gRPC, which is the C core), calling and called by every kind of member.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::binaries::Binaries;
use maille_tests::cluster::Cluster;
use maille_tests::mesh::{NAMESPACE, object};
use maille_tests::ports;
use maille_tests::process::{Process, run};
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use serde::Deserialize;
use serde_json::json;

const METHOD: &str = "/maille.test.Who/Ask";
/// A program's start and its call's own limit.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Registration, a health check, two pushes, and a program's start for every look.
const REACHABLE_LIMIT: Duration = Duration::from_secs(60);

/// What came of a call.
#[derive(Debug, Deserialize)]
struct Outcome {
    code: String,
    details: String,
    /// Whom the server saw on its connection.
    #[serde(default)]
    peer: Vec<String>,
    /// What the sidecar before it told it.
    #[serde(default)]
    xfcc: String,
}

/// A server, what stands before it, and itself.
struct Server {
    sidecar: Sidecar,
    _program: Process,
}

impl Server {
    /// One with a service of the same name, whose port 80 it serves.
    async fn start(cluster: &Cluster, name: &str, kind: Kind) -> anyhow::Result<Server> {
        let at = ports::free();
        let mut plan = Plan::server(NAMESPACE, name, "grpc", at).of(kind);
        if kind == Kind::Grpc {
            // Nothing stands before it: the mesh knows it by its own port.
            plan.ports[0].1 = at.port();
        }
        let sidecar = Sidecar::start(cluster, plan).await?;
        let bootstrap = (kind == Kind::Grpc).then(|| sidecar.grpc_bootstrap());
        let arguments = arguments(bootstrap.as_deref(), &["serve", &at.to_string()]);
        let program = Process::start(
            &format!("program-{name}"),
            cluster.path(),
            &Binaries::get().grpc()[0],
            &arguments,
        )?;
        let port = json!({"port": 80, "targetPort": "main", "appProtocol": "grpc"});
        let spec = json!({"selector": {"app": name}, "ports": [port]});
        cluster.apply(&object("Service", name, &spec)).await?;
        Ok(Server {
            sidecar,
            _program: program,
        })
    }

    /// Lets nobody of this identity in any more.
    async fn deny(&self, cluster: &Cluster, identity: &str) -> anyhow::Result<()> {
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

fn arguments(bootstrap: Option<&Path>, rest: &[&str]) -> Vec<String> {
    let [_, program] = Binaries::get().grpc();
    let mut all = vec![program.display().to_string()];
    if let Some(file) = bootstrap {
        all.extend(["--bootstrap".to_owned(), file.display().to_string()]);
    }
    all.extend(rest.iter().map(|&one| one.to_owned()));
    all
}

/// One call of a program of its own.
async fn call(bootstrap: Option<&Path>, target: &str) -> anyhow::Result<Outcome> {
    let arguments = arguments(bootstrap, &["call", target, METHOD]);
    let finished = run(&Binaries::get().grpc()[0], &arguments, CALL_LIMIT).await?;
    serde_json::from_str(&finished.out).with_context(|| format!("{finished:?}"))
}

/// Calls until a call ends with this code.
async fn until(bootstrap: Option<&Path>, target: &str, code: &str) -> anyhow::Result<Outcome> {
    let what = format!("a call of {target} ends with {code}");
    wait::until(&what, REACHABLE_LIMIT, async || {
        let outcome = call(bootstrap, target).await?;
        ensure!(
            outcome.code == code,
            "{}: {}",
            outcome.code,
            outcome.details
        );
        Ok::<_, anyhow::Error>(outcome)
    })
    .await
}

/// A client without xDS, whose sidecar takes its calls of one service at a listener.
async fn caller(
    cluster: &Cluster,
    kind: Kind,
    service: &str,
) -> anyhow::Result<(Sidecar, SocketAddr)> {
    let name = format!("caller-{kind:?}").to_lowercase();
    let sidecar = Sidecar::start(cluster, Plan::caller(NAMESPACE, &name).of(kind)).await?;
    let listen = ports::free();
    let upstream = json!({"listen": listen, "service": {"name": service, "port": 80}});
    let spec = json!({"serviceAccount": name, "upstreams": [upstream]});
    cluster.apply(&object("Workload", &name, &spec)).await?;
    Ok((sidecar, listen))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_calls_every_kind_of_server_and_is_known_there() -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let plan = Plan::caller(NAMESPACE, "caller").of(Kind::Grpc);
    let caller = Sidecar::start(&cluster, plan).await?;
    let bootstrap = caller.grpc_bootstrap();
    let bootstrap = Some(bootstrap.as_path());
    for kind in [Kind::Native, Kind::Envoy, Kind::Grpc] {
        let name = format!("server-{kind:?}").to_lowercase();
        let server = Server::start(&cluster, &name, kind).await?;
        let target = format!("xds:///{name}.{NAMESPACE}.mesh:80");
        let outcome = until(bootstrap, &target, "OK").await?;
        match kind {
            Kind::Grpc => assert_eq!(outcome.peer, [caller.identity()]),
            _ => assert!(outcome.xfcc.contains(&caller.identity()), "{outcome:?}"),
        }
        server.deny(&cluster, &caller.identity()).await?;
        until(bootstrap, &target, "PERMISSION_DENIED").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_sidecar_calls_a_program_and_is_known_there() -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let server = Server::start(&cluster, "program", Kind::Grpc).await?;
    for kind in [Kind::Native, Kind::Envoy] {
        let (caller, listen) = caller(&cluster, kind, "program").await?;
        let target = listen.to_string();
        let outcome = until(None, &target, "OK").await?;
        assert_eq!(outcome.peer, [caller.identity()], "{kind:?}");
        server.deny(&cluster, &caller.identity()).await?;
        until(None, &target, "PERMISSION_DENIED").await?;
    }
    Ok(())
}
