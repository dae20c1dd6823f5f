//! A controller that has nearly all clients sends some to the others, whatever their kind; nobody is sent anything again by it.

use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::cluster::Cluster;
use maille_tests::fleet::Fleet;
use maille_tests::mesh::{NAMESPACE, route, service};
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use serde_json::{Value, json};
use xds_api::node::{ENVOY_AGENT, NATIVE_AGENT};

/// A few streams a second, with as many handshakes of a debug build.
const SPREAD_LIMIT: Duration = Duration::from_secs(120);
/// Some restarts of a sidecar.
const PLACE_LIMIT: Duration = Duration::from_secs(120);
/// Of the test's own clients.
const CLIENTS: usize = 18;
/// Streams above the mean that stay: so few that a small fleet moves.
const ABOVE: u32 = 2;
/// As many above the mean of the clients and the sidecars' three streams (an Envoy and its agent have one each).
const FAIR: u32 = 9;

/// The name of the controller at which a node has its stream; an Envoy's agent has another one, which is not looked at.
async fn place(cluster: &Cluster, node: &str, kind: Kind) -> anyhow::Result<String> {
    let answer = cluster.cli(&["proxies", "--output", "json"]).await?;
    let proxies: Vec<Value> = serde_json::from_str(&answer.out)?;
    let kind = match kind {
        Kind::Native => NATIVE_AGENT,
        _ => ENVOY_AGENT,
    };
    let own = proxies
        .iter()
        .find(|one| one["node"] == node && one["kind"] == kind);
    let place = own.and_then(|one| one["controller"].as_str());
    let place = place.filter(|place| !place.is_empty());
    place.map(str::to_owned).context("it has no stream")
}

async fn streams(cluster: &mut Cluster) -> anyhow::Result<Vec<u32>> {
    let all = cluster.statuses().await?;
    Ok(all.iter().map(|one| one.streams).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_every_kind_move_to_the_controllers_that_have_few() -> anyhow::Result<()> {
    let above = |config: &mut Value| config["moveStreamsAbove"] = json!(ABOVE);
    let mut cluster = Cluster::found_with(3, above).await?;
    let app = format!("{:#}", service("app", "app", "http"));
    let backends = json!([{"name": "app", "port": 80}]);
    let plain = route("app", &json!([{"backendRefs": backends}]));
    let index = cluster.apply(&[app, plain].join("\n---\n")).await?;
    let envoy = Sidecar::start(&cluster, Plan::caller(NAMESPACE, "envoy").of(Kind::Envoy)).await?;
    envoy.clean(&cluster, index).await?;
    let crowded = place(&cluster, &envoy.node(), Kind::Envoy).await?;
    // It draws its controller by lot.
    let mut native = Sidecar::start(&cluster, Plan::caller(NAMESPACE, "native")).await?;
    wait::until(
        "the native sidecar is where the Envoy is",
        PLACE_LIMIT,
        async || {
            native.clean(&cluster, index).await?;
            let place = place(&cluster, &native.node(), Kind::Native).await?;
            if place != crowded {
                native.process.take().context("it runs")?.kill().await?;
                native.restart().await?;
                native.ready().await?;
            }
            ensure!(place == crowded, "it was at {place}");
            Ok(())
        },
    )
    .await?;

    let mut controllers = cluster.controllers.iter();
    let at = controllers.position(|one| one.name == crowded);
    let at = at.context("the Envoy's controller is one of them")?;
    let fleet = Fleet::start_at(&cluster, NAMESPACE, [at; CLIENTS], "out/app.shop:80", "").await?;
    for number in 0..fleet.count() {
        fleet.taken(number);
    }
    wait::until("every controller has its share", SPREAD_LIMIT, async || {
        let streams = streams(&mut cluster).await?;
        ensure!(streams.iter().all(|one| *one <= FAIR), "{streams:?}");
        Ok(())
    })
    .await?;
    eprintln!("streams: {:?}", streams(&mut cluster).await?);
    // They were there first, so they were the first to go.
    for (sidecar, kind) in [(&envoy, Kind::Envoy), (&native, Kind::Native)] {
        wait::until("it has moved", PLACE_LIMIT, async || {
            let place = place(&cluster, &sidecar.node(), kind).await?;
            ensure!(place != crowded, "{} is still at {place}", sidecar.node());
            Ok(())
        })
        .await?;
    }
    for number in 0..fleet.count() {
        let came = fleet.taken(number);
        ensure!(came.is_empty(), "the move has sent {came:?}");
    }

    // Where they are now they are served.
    let rule = json!([{"matches": [{"path": {"value": "/new"}}], "backendRefs": backends}]);
    let file = cluster.path().join("route.yaml");
    std::fs::write(&file, route("app", &rule))?;
    let file = file.to_str().context("a path of the test's")?;
    let answer = cluster.cli(&["apply", "-f", file, "--wait=60s"]).await?;
    ensure!(answer.code == Some(0), "{answer:?}");
    Ok(())
}
