//! Who lags, refuses or is away is named by `proxies` and `check`, whatever kind of client it is.

use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::cluster::Cluster;
use maille_tests::fleet::Fleet;
use maille_tests::mesh::{Mesh, NAMESPACE, object, route};
use maille_tests::ports;
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A push, a NACK, a lost stream.
const SEEN_LIMIT: Duration = Duration::from_secs(30);
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
