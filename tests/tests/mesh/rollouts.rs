//! What a change would do is known before it is written, and a change may go to a few clients first: what one of them refuses, the others never see.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::binaries::Binaries;
use maille_tests::client;
use maille_tests::cluster::Cluster;
use maille_tests::fleet::Fleet;
use maille_tests::mesh::{Mesh, NAMESPACE, object, route, service};
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use serde_json::{Value, json};
use tokio::process::Command;

/// A push and its acknowledgement, on a busy machine.
const PUSH_LIMIT: Duration = Duration::from_secs(20);
const LISTENER: &str = "out/rolled.shop:80";

/// `maille <arguments> --filename <document>`.
async fn maille(cluster: &Cluster, arguments: &[&str], document: &str) -> anyhow::Result<Output> {
    let file = cluster.path().join("change.yaml");
    std::fs::write(&file, document)?;
    let mut command = Command::new(Binaries::get().cli());
    command.arg("--admin").arg(cluster.path().join("admin"));
    command.args(arguments).arg("--filename").arg(file);
    Ok(command.kill_on_drop(true).output().await?)
}

/// A route whose answers have a header.
fn marked(mark: &str) -> String {
    let modifier = json!({"set": [{"name": "x-mark", "value": mark}]});
    let filters = json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier}]);
    let backends = json!([{"name": "rolled", "port": 80}]);
    route(
        "rolled",
        &json!([{"filters": filters, "backendRefs": backends}]),
    )
}

async fn cluster(size: usize) -> anyhow::Result<Cluster> {
    let cluster = Cluster::found(size).await?;
    let other = format!("{:#}", service("other", "other", "http"));
    let rolled = format!("{:#}", service("rolled", "rolled", "http"));
    cluster
        .apply(&[rolled, other, marked("old")].join("\n---\n"))
        .await?;
    Ok(cluster)
}

/// By node: the types and names that it was sent, and the bytes so far.
fn sets(report: &Value) -> anyhow::Result<BTreeMap<String, BTreeSet<(String, String)>>> {
    let resources = report["resources"].as_array().context("resources")?;
    let clients = report["clients"].as_array().context("clients")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |client: &Value| {
        let places = client["resources"].as_array().into_iter().flatten();
        let places = places.filter_map(|place| usize::try_from(place.as_u64()?).ok());
        let named = places.map(|place| {
            let resource = &resources[place];
            (text(&resource["typeUrl"]), text(&resource["name"]))
        });
        (text(&client["node"]), named.collect())
    };
    Ok(clients.iter().map(of).collect())
}

/// Bytes of resources by node, as the controllers count them.
async fn bytes(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut admin = cluster.any().await?;
    let answer = admin
        .proxies(xds_api::maille::v1::ProxiesRequest {})
        .await?;
    let proxies = answer.into_inner().proxies.into_iter();
    let mut all = BTreeMap::new();
    for proxy in proxies {
        *all.entry(proxy.node).or_default() += proxy.resource_bytes;
    }
    Ok(all)
}

/// Native clients of the test's at three controllers, a native sidecar and an Envoy.
#[tokio::test(flavor = "multi_thread")]
async fn a_diff_names_the_clients_and_resources_that_are_pushed_afterwards() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let fleet = Fleet::start(&cluster, NAMESPACE, 6, LISTENER, "").await?;
    let apart = Fleet::start(&cluster, "apart", 3, "out/other.shop:80", "").await?;
    let plan = Plan::caller(NAMESPACE, "envoy").of(Kind::Envoy);
    let envoy = Sidecar::start(&cluster, plan).await?;
    let native = Sidecar::start(&cluster, Plan::caller(NAMESPACE, "native")).await?;
    let settled = cluster
        .apply(&object(
            "Workload",
            "x",
            &json!({"addresses": ["192.0.2.1"]}),
        ))
        .await?;
    for sidecar in [&envoy, &native] {
        sidecar.clean(&cluster, settled).await?;
    }
    for number in 0..fleet.count() {
        fleet.taken(number);
    }

    let document = marked("new");
    let said = maille(&cluster, &["diff", "--output", "json"], &document).await?;
    ensure!(said.status.success(), "{said:?}");
    let report: Value = serde_json::from_slice(&said.stdout)?;
    let expected = sets(&report)?;
    let before = bytes(&cluster).await?;
    let silent = (0..fleet.count()).all(|number| fleet.taken(number).is_empty());
    ensure!(silent, "a diff has sent something");

    let done = maille(&cluster, &["apply", "--wait=30s"], &document).await?;
    ensure!(done.status.success(), "{done:?}");
    let after = bytes(&cluster).await?;
    let pushed = |node: &&String| after.get(*node) > before.get(*node);
    let pushed: BTreeSet<&String> = after.keys().filter(pushed).collect();
    ensure!(
        pushed == expected.keys().collect(),
        "pushed to {pushed:?}, and the diff named {:?}",
        expected.keys()
    );
    for number in 0..fleet.count() {
        let came = fleet.taken(number).into_iter();
        let came = came
            .map(|one| (one.kind.as_str().to_owned(), one.name))
            .collect();
        let named = expected.get(&fleet.node(number)).context("not named")?;
        ensure!(*named == came, "{named:?} beside {came:?}");
    }
    ensure!((0..apart.count()).all(|number| apart.taken(number).is_empty()));
    ensure!(expected.contains_key("shop/envoy") && !expected.contains_key("shop/native"));

    // The same for people.
    let said = maille(&cluster, &["diff"], &marked("newer")).await?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let has = |part: &str| text.contains(part);
    ensure!(
        has(
            "~ RouteConfiguration shop/rolled:80 (native) to shop/fleet-0, shop/fleet-1, shop/fleet-2, 3 more"
        ) && has("-        value: new")
            && has("+        value: newer")
            && has("7 clients would be sent 2 resources"),
        "{text}"
    );
    let nothing = maille(&cluster, &["diff"], &marked("new")).await?;
    let text = String::from_utf8_lossy(&nothing.stdout).into_owned();
    ensure!(text == "no client would be sent anything\n", "{text}");
    let wrong = maille(
        &cluster,
        &["diff"],
        &marked("new").replace("rolled", "lost"),
    )
    .await?;
    ensure!(wrong.status.code() == Some(4), "{wrong:?}");
    Ok(())
}

/// How many of the clients were sent something with a text in it, and how many times anything was sent.
fn seen(fleet: &Fleet, text: &str) -> (usize, usize) {
    let mut count = (0, 0);
    for number in 0..fleet.count() {
        let came = fleet.taken(number);
        count.0 += usize::from(came.iter().any(|one| one.holds(text)));
        count.1 += came.len();
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_refuses_ends_the_rollout_at_its_first_stage() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let fleet = Fleet::start(&cluster, NAMESPACE, 10, LISTENER, "bad").await?;
    let staged = ["apply", "--staged", "10%,50%,100%"];

    let done = maille(&cluster, &staged, &marked("good")).await?;
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(
        done.status.success()
            && told.contains("at 10%: 1 of 10 clients")
            && told.contains("at 50%: 5 of 10 clients"),
        "{told}"
    );
    // Each once, whichever stage brought it.
    wait::until("all have it", PUSH_LIMIT, async || {
        let idle = cluster.cli(&["proxies", "--output", "json"]).await?;
        ensure!(idle.out.contains("\"behindSeconds\": 0"), "{idle:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let (good, sent) = seen(&fleet, "good");
    ensure!((good, sent) == (10, 10), "{good} clients, {sent} resources");

    let refused = maille(&cluster, &staged, &marked("bad")).await?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1)
            && told.contains("refuses the change: ")
            && told.contains("this client refuses it")
            && told.contains("was taken back"),
        "{told}"
    );
    // The one that refused it is sent what it had.
    let (mut bad, mut back) = (0, 0);
    wait::until("it was taken back", PUSH_LIMIT, async || {
        for number in 0..fleet.count() {
            let came = fleet.taken(number);
            bad += came.iter().filter(|one| one.holds("bad")).count();
            back += came.iter().filter(|one| one.holds("good")).count();
        }
        wait::ensure(back == 1, format!("{bad} bad, {back} back"))
    })
    .await?;
    ensure!(bad == 1, "{bad} clients saw what was refused");
    let none = cluster.cli(&["rollout"]).await?;
    ensure!(none.err.contains("no rollout is under way"), "{none:?}");
    Ok(())
}

/// Envoy compiles no pattern whose program is larger than 100 instructions, unless it is told otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_envoy_refuses_the_other_envoy_never_sees() -> anyhow::Result<()> {
    let mut mesh = Mesh::of([Kind::Envoy, Kind::Envoy], "http", &["rolled"]).await?;
    mesh.service("rolled", "rolled").await?;
    mesh.apply(&marked("old")).await?;
    let long = json!([{"path": {"type": "RegularExpression", "value": "/(a|bc){200}"}}]);
    let backends = json!([{"name": "rolled", "port": 80}]);
    let rules = json!([{"matches": long, "backendRefs": backends}]);
    let staged = ["apply", "--staged", "10%,100%"];
    let refused = maille(&mesh.cluster, &staged, &route("rolled", &rules)).await?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1)
            && told.contains("at 10%: 1 of 2 clients")
            && told.contains("program size"),
        "{told}"
    );
    let mut rejected = 0;
    for sidecar in [&mesh.caller, &mesh.servers["rolled"].sidecar] {
        let stats = client::get(sidecar.envoy_admin, "/stats?filter=rds.*update_rejected").await?;
        let counts = stats.body.lines().filter_map(|line| line.rsplit_once(": "));
        let counts: u64 = counts
            .filter_map(|(_, number)| number.parse::<u64>().ok())
            .sum();
        rejected += usize::from(counts > 0);
    }
    ensure!(rejected == 1, "{rejected} Envoys have seen it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_was_left_is_seen_and_is_finished_or_aborted_by_hand() -> anyhow::Result<()>
{
    let cluster = cluster(1).await?;
    let fleet = Fleet::start(&cluster, NAMESPACE, 4, LISTENER, "").await?;
    let writer = maille_tests::cluster::writer;
    let stage = async |mark: &str, client: String| {
        let request = xds_api::maille::v1::StageRequest {
            documents: vec![xds_api::maille::v1::Document {
                file: "change.yaml".to_owned(),
                text: marked(mark),
            }],
            share: 50,
            client,
            sequence: 1,
        };
        let stage = cluster.any().await?.stage(request).await?;
        Ok::<_, anyhow::Error>(stage.into_inner())
    };
    let client = writer();
    let first = stage("left", client.clone()).await?;
    let stage_of = first.stage.context("a stage")?;
    ensure!(
        (stage_of.concerned, stage_of.reached) == (4, 2),
        "{stage_of:?}"
    );
    // Whoever has not heard the answer asks again, and is told the same.
    let again = stage("left", client).await?;
    ensure!(
        (again.id, again.index) == (first.id, first.index),
        "{again:?}"
    );
    let shown = cluster.cli(&["rollout"]).await?;
    ensure!(
        shown.out.contains("50%") && shown.out.contains("HTTPRoute shop/rolled"),
        "{shown:?}"
    );
    let check = cluster.cli(&["check"]).await?;
    ensure!(check.out.contains("maille rollout"), "{check:?}");
    let other = maille(&cluster, &["apply"], &marked("other")).await?;
    let told = String::from_utf8_lossy(&other.stderr).into_owned();
    ensure!(
        !other.status.success() && told.contains("rollout"),
        "{told}"
    );

    let aborted = cluster.cli(&["rollout", "abort", "--wait=20s"]).await?;
    ensure!(aborted.err.contains("is taken back"), "{aborted:?}");
    let (left, _) = seen(&fleet, "left");
    ensure!(left == 2, "{left} clients have seen it");
    stage("finished", writer()).await?;
    let finished = cluster.cli(&["rollout", "finish", "--wait=20s"]).await?;
    ensure!(finished.err.contains("live at all"), "{finished:?}");
    let (all, sent) = seen(&fleet, "finished");
    ensure!((all, sent) == (4, 4), "{all} clients, {sent} resources");
    Ok(())
}
