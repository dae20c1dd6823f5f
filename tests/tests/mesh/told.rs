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
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use xds_api::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use xds_api::envoy::service::status::v3::{ClientConfig, ClientStatusRequest};
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_api::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};

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

/// A question about one client.
fn about(node: &str) -> ClientStatusRequest {
    let matcher = StringMatcher {
        match_pattern: Some(MatchPattern::Exact(node.to_owned())),
        ..StringMatcher::default()
    };
    ClientStatusRequest {
        node_matchers: vec![NodeMatcher {
            node_id: Some(matcher),
            ..NodeMatcher::default()
        }],
        ..ClientStatusRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_questions_is_answered_one_by_one_as_things_stand() -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let told_service = format!("{:#}", service("told", "told", "http"));
    cluster
        .apply(&[told_service, marked("x-good")].join("\n---\n"))
        .await?;
    let fleet = Fleet::start(&cluster, NAMESPACE, 2, LISTENER, REFUSED).await?;
    let address = cluster.controllers[0].address("admin");
    let channel = cluster.credentials.channel(address).await?;
    let mut client = ClientStatusDiscoveryServiceClient::new(channel);
    let (questions, asked) = mpsc::channel(1);
    let answers = client.stream_client_status(ReceiverStream::new(asked));
    let mut answers = answers.await?.into_inner();
    let mut ask = async |question: ClientStatusRequest| -> anyhow::Result<Vec<ClientConfig>> {
        questions.send(question).await?;
        let answer = tokio::time::timeout(LIMIT, answers.message()).await??;
        Ok(answer.context("the stream has ended")?.config)
    };
    let ids = |told: &[ClientConfig]| -> Vec<String> {
        let nodes = told.iter().filter_map(|one| one.node.as_ref());
        nodes.map(|node| node.id.clone()).collect()
    };
    let mut all = ids(&ask(ClientStatusRequest::default()).await?);
    all.sort();
    ensure!(all == [fleet.node(0), fleet.node(1)], "{all:?}");
    let one = fleet.node(1);
    let before = ask(about(&one)).await?;
    ensure!(ids(&before) == [one.clone()], "{before:?}");

    // The same stream tells what has become of it since.
    cluster.apply(&marked(REFUSED)).await?;
    wait::until("the refusal is told", LIMIT, async || {
        let told = ask(about(&one)).await?;
        let mut all = told.iter().flat_map(|one| &one.generic_xds_configs);
        let refused = all.any(|one| {
            let state = one.error_state.as_ref();
            state.is_some_and(|state| state.details == "this client refuses it")
        });
        ensure!(refused, "{told:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;

    // What cannot be honoured ends it with the reason.
    let mut caseless = about(&one);
    if let Some(id) = &mut caseless.node_matchers[0].node_id {
        id.ignore_case = true;
    }
    let ended = ask(caseless).await.err().context("it is refused")?;
    let status = ended.downcast_ref::<tonic::Status>().context("a status")?;
    ensure!(
        status.code() == Code::InvalidArgument && status.message().contains("ignore_case"),
        "{status:?}"
    );
    Ok(())
}
