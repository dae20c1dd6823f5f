//! Client status: what each client was sent and what it said to it, for administrators, in the standard's form and by the CLI.

use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::binaries::Binaries;
use maille_tests::cluster::Cluster;
use maille_tests::fleet::Fleet;
use maille_tests::mesh::{NAMESPACE, route, service};
use maille_tests::process::run;
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
const LISTENER: &str = "out/told.shop:80";
/// Stands in the resources that the fleet refuses.
const REFUSED: &str = "x-refused";

/// A route that sets a header.
fn marked(mark: &str) -> String {
    let modifier = json!({"set": [{"name": mark, "value": "yes"}]});
    let filters = json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier}]);
    let backends = json!([{"name": "told", "port": 80}]);
    route(
        "told",
        &json!([{"filters": filters, "backendRefs": backends}]),
    )
}

/// `maille proxies --config <node>`: its code, and its lines as JSON.
async fn told(cluster: &Cluster, node: &str) -> anyhow::Result<Vec<Value>> {
    let admin = cluster.path().join("admin").to_string_lossy().into_owned();
    let arguments = ["--admin", &admin, "-o", "json", "proxies", "--config", node];
    let done = run(&Binaries::get().cli(), &arguments, LIMIT).await?;
    ensure!(done.code == Some(0), "{node}: {done:?}");
    Ok(serde_json::from_str(&done.out)?)
}

/// Waits until all that stands of a client is acknowledged, some of every one of these types.
async fn acknowledged(cluster: &Cluster, node: &str, types: &[&str]) -> anyhow::Result<Vec<Value>> {
    wait::until("all is acknowledged", LIMIT, async || {
        let mut all = told(cluster, node).await?;
        all.retain(|one| one["status"] != "DOES_NOT_EXIST");
        let acked = |one: &Value| {
            let whole = one["resource"].is_object()
                && one["version"].as_str().is_some_and(|text| text.len() == 32);
            one["status"] == "ACKED" && one["error"] == "" && whole
        };
        let known = |kind: &&str| {
            let of = |one: &Value| {
                one["typeUrl"]
                    .as_str()
                    .is_some_and(|url| url.ends_with(kind))
            };
            all.iter().any(of)
        };
        ensure!(all.iter().all(acked) && types.iter().all(known), "{all:?}");
        Ok::<_, anyhow::Error>(all)
    })
    .await
}

fn is_route(one: &Value) -> bool {
    one["typeUrl"]
        .as_str()
        .is_some_and(|url| url.ends_with(".RouteConfiguration"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_kind_of_client_acknowledged_or_refused_is_told() -> anyhow::Result<()> {
    let cluster = Cluster::found(3).await?;
    let told_service = format!("{:#}", service("told", "told", "http"));
    cluster
        .apply(&[told_service, marked("x-good")].join("\n---\n"))
        .await?;
    let fleet = Fleet::start(&cluster, NAMESPACE, 3, LISTENER, REFUSED).await?;
    let plan = Plan::caller(NAMESPACE, "native").of(Kind::Native);
    let native = Sidecar::start(&cluster, plan).await?;
    let plan = Plan::caller(NAMESPACE, "envoy").of(Kind::Envoy);
    let envoy = Sidecar::start(&cluster, plan).await?;

    let types = [
        ".Listener",
        ".Cluster",
        ".ClusterLoadAssignment",
        ".RouteConfiguration",
    ];
    for number in 0..fleet.count() {
        acknowledged(&cluster, &fleet.node(number), &types).await?;
    }
    let own = acknowledged(&cluster, "shop/native", &[]).await?;
    ensure!(!own.is_empty(), "the native sidecar has something");
    acknowledged(&cluster, "shop/envoy", &types).await?;

    let index = cluster.apply(&marked(REFUSED)).await?;
    native.clean(&cluster, index).await?;
    envoy.clean(&cluster, index).await?;
    acknowledged(&cluster, "shop/envoy", &types).await?;
    for number in 0..fleet.count() {
        wait::until("the refusal is told", LIMIT, async || {
            let all = told(&cluster, &fleet.node(number)).await?;
            let routes: Vec<&Value> = all.iter().filter(|one| is_route(one)).collect();
            let refused = |one: &&Value| {
                let words = one["error"] == "this client refuses it";
                one["status"] == "NACKED" && words && one["resource"].to_string().contains(REFUSED)
            };
            ensure!(!routes.is_empty() && routes.iter().all(refused), "{all:?}");
            let rest = all.iter().filter(|one| !is_route(one));
            ensure!(rest.clone().all(|one| one["status"] == "ACKED"), "{all:?}");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
    }
    cluster.apply(&marked("x-mended")).await?;
    acknowledged(&cluster, &fleet.node(0), &types).await?;
    Ok(())
}

/// Makes a viewer's certificate for a namespace; answers its directory.
pub(crate) async fn viewer(cluster: &Cluster, namespace: &str) -> anyhow::Result<String> {
    let text = |name: &str| cluster.path().join(name).to_string_lossy().into_owned();
    let endpoint = cluster.controllers[0].address("admin").to_string();
    let (secrets, directory) = (text("secrets"), text(namespace));
    let arguments = [
        "admin-certificate",
        "--secrets",
        &secrets,
        "--admin-dir",
        &directory,
        "--admin-name",
        namespace,
        "--endpoint",
        &endpoint,
        "--role",
        "viewer",
        "--namespace",
        namespace,
    ];
    let done = run(&Binaries::get().controller(), &arguments, LIMIT).await?;
    ensure!(done.code == Some(0), "{done:?}");
    Ok(directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_is_told_of_the_clients_in_its_namespaces_only() -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let told_service = format!("{:#}", service("told", "told", "http"));
    cluster
        .apply(&[told_service, marked("x-good")].join("\n---\n"))
        .await?;
    let fleet = Fleet::start(&cluster, NAMESPACE, 1, LISTENER, "").await?;
    let node = fleet.node(0);
    for (namespace, code) in [(NAMESPACE, 0), ("other", 3)] {
        let admin = viewer(&cluster, namespace).await?;
        let arguments = ["--admin", &admin, "proxies", "--config", &node];
        let done = run(&Binaries::get().cli(), &arguments, LIMIT).await?;
        ensure!(done.code == Some(code), "{namespace}: {done:?}");
        let seen = done.out.contains("ACKED") && done.out.contains(LISTENER);
        ensure!(seen == (code == 0), "{namespace}: {done:?}");
    }
    let socket = cluster.controllers[0].data().join("admin.sock");
    let socket = socket.to_str().context("a path of the test's")?;
    let arguments = ["--socket", socket, "proxies", "--config", &node];
    let done = run(&Binaries::get().cli(), &arguments, LIMIT).await?;
    ensure!(
        done.code == Some(0) && done.out.contains("ACKED"),
        "{done:?}"
    );
    Ok(())
}
