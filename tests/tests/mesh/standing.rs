//! Who lags, refuses or is away is named by `proxies` and `check`, whatever kind of client it is.

use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::binaries::Grpc;
use maille_tests::cluster::Cluster;
use maille_tests::fleet::Fleet;
use maille_tests::mesh::{Mesh, NAMESPACE, object, route};
use maille_tests::ports;
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::grpc::programs::{Watcher, target};

/// A push, a NACK, a lost stream.
const SEEN_LIMIT: Duration = Duration::from_secs(30);
/// `maille check` calls behind who has been for 30 s; a minute later its stream is closed.
const CHECK_LIMIT: Duration = Duration::from_secs(60);
/// The shortest life of a certificate.
const LEAF: &str = "1m";
/// That, with a renewal just before the quorum is lost, and a look.
const ENDED_LIMIT: Duration = Duration::from_secs(120);

/// What `maille proxies` says of one node: of each of its streams.
async fn standing(cluster: &Cluster, node: &str) -> anyhow::Result<Vec<Value>> {
    let listed = cluster.cli(&["proxies", "--output", "json"]).await?;
    let all: Vec<Value> = serde_json::from_str(&listed.out).context("proxies")?;
    Ok(all.into_iter().filter(|one| one["node"] == node).collect())
}

async fn until(
    cluster: &Cluster,
    node: &str,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    wait::until(&format!("{node} {what}"), SEEN_LIMIT, async || {
        let own = standing(cluster, node).await?;
        ensure!(own.iter().any(&is), "{own:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

for_each_kind!(who_is_behind_and_who_is_away_is_named);

async fn who_is_behind_and_who_is_away_is_named([kind, _]: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of([Kind::Native, kind], "http", &["one"]).await?;
    mesh.service("one", "one").await?;
    let fine = mesh.cluster.cli(&["check"]).await?;
    ensure!(fine.code == Some(0), "{fine:?}");

    let Mesh {
        cluster, servers, ..
    } = &mut mesh;
    let sidecar = &mut servers.get_mut("one").context("it was started")?.sidecar;
    let program = match kind {
        Kind::Native => &mut sidecar.process,
        _ => &mut sidecar.envoy,
    };
    let running = program.as_ref().context("it runs")?;
    running.signal(Signal::STOP)?;
    let deny = json!({"action": "Deny", "rules": [{"from": [{"identities": ["spiffe://mesh.test/ns/shop/sa/x"]}]}]});
    cluster
        .apply(&object("AuthorizationPolicy", "x", &deny))
        .await?;
    let behind = |own: &Value| own["behindSeconds"].as_u64() > Some(0);
    until(cluster, "shop/one", "is behind", behind).await?;
    running.signal(Signal::CONT)?;
    for gone in [program.take(), sidecar.process.take()]
        .into_iter()
        .flatten()
    {
        gone.kill().await?;
    }
    let away = |own: &Value| own["controller"] == "" && own["certificateNotAfter"] != "-";
    until(cluster, "shop/one", "is away", away).await?;
    let check = cluster.cli(&["check"]).await?;
    ensure!(
        check.code == Some(1)
            && check.out.lines().any(|line| {
                line.starts_with("proxies-connected ")
                    && line.contains("FAILED")
                    && line.contains("shop/one")
            }),
        "{check:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refuses_is_named_with_its_words() -> anyhow::Result<()> {
    let mesh = Mesh::start("http", &["one"]).await?;
    let cluster = &mesh.cluster;
    let service = maille_tests::mesh::service("one", "one", "http");
    cluster.apply(&format!("{service:#}")).await?;
    let fleet = Fleet::start(cluster, NAMESPACE, 1, "out/one.shop:80", "unwanted").await?;
    let backends = json!([{"name": "one", "port": 80}]);
    let path = json!([{"path": {"type": "Exact", "value": "/unwanted"}}]);
    cluster
        .apply(&route(
            "one",
            &json!([{"matches": path, "backendRefs": backends}]),
        ))
        .await?;
    let refused = |own: &Value| {
        let text = own["lastNack"].as_str().unwrap_or_default();
        text.contains("this client refuses it")
    };
    until(cluster, &fleet.node(0), "has refused it", refused).await?;
    let check = cluster.cli(&["check"]).await?;
    ensure!(
        check.code == Some(1)
            && check
                .out
                .contains("shop/fleet-0 (maille-proxy) refused RDS")
            && check.out.contains("mend the object"),
        "{check:?}"
    );
    Ok(())
}

/// What stands before the digits that a program prints.
const MARK: &str = "mark-";

/// A route of the service, with a condition that holds a number, and one whose expression may be too much for some.
fn marked(number: u64, expression: &str) -> String {
    let backends = json!([{"name": "one", "port": 80}]);
    let header = json!({"name": "x-mark", "value": format!("{MARK}{number}")});
    let path = json!({"type": "RegularExpression", "value": expression});
    let marked = json!({"matches": [{"headers": [header], "path": path}], "backendRefs": backends});
    route("one", &json!([marked, {"backendRefs": backends}]))
}

/// Waits until `maille check` fails, and all of this stands in one line of what it found.
async fn found(cluster: &Cluster, check: &str, words: &[&str]) -> anyhow::Result<()> {
    wait::until(&format!("{check} finds it"), CHECK_LIMIT, async || {
        let found = cluster.cli(&["check"]).await?;
        let mut lines = found.out.lines().filter(|line| line.starts_with(check));
        let told = |line: &str| words.iter().all(|word| line.contains(word));
        ensure!(found.code == Some(1) && lines.any(told), "{found:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// Whether `maille get -o wide` says of the route that it is not live at a client.
async fn hangs_at(cluster: &Cluster, node: &str) -> anyhow::Result<()> {
    let arguments = ["get", "HTTPRoute", "-n", NAMESPACE, "-o", "wide"];
    let routes = cluster.cli(&arguments).await?;
    let behind = format!("behind: {node}");
    ensure!(routes.out.contains(&behind), "{routes:?}");
    Ok(())
}

/// More repetitions than RE2 takes, which the C core compares with, and fewer than `maille apply` does.
#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_program_that_is_behind_or_refuses_is_named() -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let service = format!("{:#}", maille_tests::mesh::service("one", "one", "grpc"));
    let objects = [service, marked(1, "/a")].join("\n---\n");
    cluster.apply(&objects).await?;
    let told = target("one");
    let mut program = Watcher::start(&cluster, "program", Grpc::C, (&told, MARK)).await?;
    let node = program.agent.node();
    wait::until("the program has the route", SEEN_LIMIT, async || {
        ensure!(program.marks()?.contains(&1), "not told yet");
        Ok::<_, anyhow::Error>(())
    })
    .await?;

    program.signal(Signal::STOP)?;
    cluster.apply(&marked(2, "/a")).await?;
    let is_program = |own: &Value| {
        let kind = own["kind"].as_str().unwrap_or_default();
        kind.starts_with("gRPC")
    };
    let behind = |own: &Value| is_program(own) && own["behindSeconds"].as_u64() > Some(0);
    until(&cluster, &node, "is behind", behind).await?;
    hangs_at(&cluster, &node).await?;
    let named = format!("{node} (gRPC");
    found(
        &cluster,
        "proxies-current ",
        &[&named, "look at its process"],
    )
    .await?;
    program.signal(Signal::CONT)?;
    let current = |own: &Value| is_program(own) && own["behindSeconds"] == 0;
    until(&cluster, &node, "is not behind any more", current).await?;

    cluster.apply(&marked(3, "/a{1001}")).await?;
    let words = "invalid repetition size";
    let refused = |own: &Value| {
        let text = own["lastNack"].as_str().unwrap_or_default();
        is_program(own) && text.contains(words)
    };
    until(&cluster, &node, "has refused it", refused).await?;
    hangs_at(&cluster, &node).await?;
    found(
        &cluster,
        "proxies-accept ",
        &[&named, "refused RDS", words, "mend the object"],
    )
    .await?;

    cluster.apply(&marked(4, "/a{1000}")).await?;
    let mended = |own: &Value| is_program(own) && own["lastNack"] == "";
    until(&cluster, &node, "has taken the mended one", mended).await?;
    ensure!(
        program.marks()?.last() == Some(&4),
        "what it refused was never in force"
    );
    Ok(())
}

/// Without a quorum no certificate is renewed: after the shortest life there is, everybody's has ended.
#[tokio::test(flavor = "multi_thread")]
async fn whose_certificate_has_ended_is_named() -> anyhow::Result<()> {
    let mut cluster = Cluster::found_with(3, |config| config["leafLifetime"] = json!(LEAF)).await?;
    let mut sidecars = Vec::new();
    for (name, kind) in [
        ("native", Kind::Native),
        ("envoy", Kind::Envoy),
        ("grpc", Kind::Grpc),
    ] {
        let plan = Plan::server(NAMESPACE, name, "http", ports::free()).of(kind);
        sidecars.push(Sidecar::start(&cluster, plan).await?);
    }
    for gone in [1, 2] {
        cluster.kill(gone).await?;
    }
    wait::until("every certificate has ended", ENDED_LIMIT, async || {
        let check = cluster.cli(&["check"]).await?;
        let mut lines = check.out.lines();
        let line = lines.find(|line| line.starts_with("certificates-valid "));
        let line = line.with_context(|| format!("{check:?}"))?;
        let named = sidecars.iter().all(|one| line.contains(&one.node()));
        ensure!(named && line.contains("FAILED"), "{line}");
        ensure!(line.contains("give it a new join token"), "{line}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}
