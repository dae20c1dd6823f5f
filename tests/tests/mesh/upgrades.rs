//! A rolling upgrade to a binary of the next feature level: nobody is sent anything by it, until the level is raised.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::binaries::{Binaries, Grpc};
use maille_tests::cluster::Cluster;
use maille_tests::fleet::{Came, Fleet};
use maille_tests::mesh::{NAMESPACE, route, service};
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use serde_json::{Value, json};
use xds_api::type_url::TypeUrl;

use crate::grpc::programs::{Watcher, target};

/// All members must have supported a level for a minute before it is raised.
const RAISE_LIMIT: Duration = Duration::from_secs(120);
/// A push and its acknowledgement.
const PUSH_LIMIT: Duration = Duration::from_secs(30);
/// How long a controller may take to find out that it cannot read its log.
const END_LIMIT: Duration = Duration::from_secs(30);
/// What the next level writes into routes.
const NEXT_MARK: &str = "shop/app:80@2";
/// That, without the level.
const LEVEL_MARK: &str = "shop/app:80@";

/// The level that each controller that runs is at.
async fn levels(cluster: &mut Cluster) -> anyhow::Result<Vec<u32>> {
    let all = cluster.statuses().await?;
    Ok(all.iter().map(|status| status.feature_level).collect())
}

/// How many clients have a stream and have acknowledged all that concerns them.
async fn current(cluster: &Cluster) -> anyhow::Result<usize> {
    let answer = cluster.cli(&["proxies", "--output", "json"]).await?;
    let proxies: Vec<Value> = serde_json::from_str(&answer.out)?;
    let current = |one: &&Value| one["controller"] != "" && one["behindSeconds"] == 0;
    let nodes = proxies
        .iter()
        .filter(current)
        .map(|one| one["node"].to_string());
    Ok(nodes.collect::<BTreeSet<String>>().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_sends_nothing_until_the_level_is_raised_and_then_what_changes_once()
-> anyhow::Result<()> {
    let mut cluster = Cluster::found(3).await?;
    let backends = json!([{"name": "app", "port": 80}]);
    let app = format!("{:#}", service("app", "app", "http"));
    cluster
        .apply(&[app, route("app", &json!([{"backendRefs": backends}]))].join("\n---\n"))
        .await?;
    let fleet = Fleet::start(&cluster, NAMESPACE, 44, "out/app.shop:80", "").await?;
    let mut sidecars = Vec::new();
    for (name, kind) in [
        ("native-1", Kind::Native),
        ("native-2", Kind::Native),
        ("envoy-1", Kind::Envoy),
        ("envoy-2", Kind::Envoy),
    ] {
        let plan = Plan::caller(NAMESPACE, name).of(kind);
        sidecars.push(Sidecar::start(&cluster, plan).await?);
    }
    // Programs with gRPC's xDS begin every stream with the state of the world: they show that they go on, not that nothing is sent.
    let mut programs = Vec::new();
    for (name, library) in [("grpc-c-core", Grpc::C), ("grpc-go", Grpc::Go)] {
        let target = target("app");
        programs.push(Watcher::start(&cluster, name, library, (&target, LEVEL_MARK)).await?);
    }
    let index = cluster
        .any()
        .await?
        .status(xds_api::maille::v1::StatusRequest {})
        .await?;
    let index = index.into_inner().state.context("a state")?.index;
    for sidecar in &sidecars {
        sidecar.clean(&cluster, index).await?;
    }
    for number in 0..fleet.count() {
        fleet.taken(number);
    }

    // One goes forward, back, and forward again with the others.
    let next = Binaries::get().next_controller();
    cluster.stop(0).await?;
    cluster.start_as(0, &next)?;
    cluster.ready().await?;
    cluster.stop(0).await?;
    cluster.start(0)?;
    cluster.ready().await?;
    for place in 0..3 {
        cluster.stop(place).await?;
        cluster.start_as(place, &next)?;
        cluster.ready().await?;
    }
    let all = fleet.count() + sidecars.len() + programs.len();
    wait::until("all are back", PUSH_LIMIT, async || {
        let current = current(&cluster).await?;
        ensure!(current >= all, "{current} of {all}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    for number in 0..fleet.count() {
        let came = fleet.taken(number);
        ensure!(came.is_empty(), "the upgrade has sent {came:?}");
    }
    for program in &mut programs {
        let marks = program.marks()?;
        ensure!(
            marks.is_empty(),
            "{} has seen {marks:?}",
            program.agent.node()
        );
    }
    ensure!(levels(&mut cluster).await? == [1, 1, 1]);
    wait::until("the level is raised", RAISE_LIMIT, async || {
        let levels = levels(&mut cluster).await?;
        ensure!(levels == [2, 2, 2], "{levels:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;

    // All that anybody was sent since then.
    let mut came: Vec<Vec<Came>> = vec![Vec::new(); fleet.count()];
    wait::until("everybody has the new routes", PUSH_LIMIT, async || {
        for (number, came) in came.iter_mut().enumerate() {
            came.extend(fleet.taken(number));
        }
        let without = came.iter().filter(|one| one.is_empty()).count();
        wait::ensure(without == 0, format!("{without} have nothing"))
    })
    .await?;
    for (number, came) in came.iter().enumerate() {
        let routes = came.len() == 1 && came[0].kind == TypeUrl::Route && came[0].holds(NEXT_MARK);
        ensure!(routes, "{} was sent {came:?}", fleet.node(number));
    }
    for program in &mut programs {
        let node = program.agent.node();
        let mut marks = Vec::new();
        wait::until(
            &format!("{node} has the new routes"),
            PUSH_LIMIT,
            async || {
                marks.extend(program.marks()?);
                ensure!(marks == [2], "{marks:?}");
                Ok::<_, anyhow::Error>(())
            },
        )
        .await?;
    }
    // A stream that began after the restarts has carried what changed, and nothing before it.
    let answer = cluster.cli(&["proxies", "--output", "json"]).await?;
    let proxies: Vec<Value> = serde_json::from_str(&answer.out)?;
    for sidecar in &sidecars {
        let own = proxies.iter().filter(|one| one["node"] == sidecar.node());
        let bytes: u64 = own.filter_map(|one| one["resourceBytes"].as_u64()).sum();
        // A native sidecar that calls nobody holds no routes; an Envoy holds those of one service.
        let limit = if sidecar.plan.kind == Kind::Native {
            0
        } else {
            400
        };
        ensure!(
            bytes <= limit,
            "{} was sent {bytes} bytes: {proxies:?}",
            sidecar.node()
        );
    }

    // There is no way back.
    cluster.stop(1).await?;
    cluster.start(1)?;
    let process = cluster.controllers[1].process.as_mut().context("started")?;
    let status = process.ended(END_LIMIT).await?;
    let log = process.log();
    ensure!(
        !status.success() && log.contains("feature level 2 is unknown to this version"),
        "{status}: {log}"
    );
    cluster.start_as(1, &next)?;
    cluster.ready().await?;
    Ok(())
}
