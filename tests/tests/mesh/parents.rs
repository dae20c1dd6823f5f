//! Routes and their parents: several of them, ports of them, and parents of another namespace, whose routes are for that one's clients alone.

use std::net::SocketAddr;

use anyhow::ensure;
use maille_tests::mesh::{Mesh, answers, ask, object, object_in, route};
use maille_tests::ports;
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use serde_json::{Value, json};

for_each_kind!(
    a_route_holds_for_every_parent_and_for_the_port_that_it_names,
    a_route_of_the_clients_namespace_holds_for_its_clients_alone,
);

/// The namespace of the other client.
const DESK: &str = "desk";

/// Rules by the path that they are for, each seen by a header of the answer.
fn rules(marks: &[(&str, &str)], backend: &Value) -> Value {
    let rule = |(path, mark): &(&str, &str)| {
        let set = json!([{"name": "x-rule", "value": mark}]);
        let filters =
            json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": set}}]);
        json!({"matches": [{"path": {"value": path}}], "filters": filters, "backendRefs": [backend]})
    };
    marks.iter().map(rule).collect()
}

/// A caller of another namespace, and its listeners for ports of services of the mesh's.
async fn desk(
    mesh: &Mesh,
    kind: Kind,
    called: &[(&str, u16)],
) -> anyhow::Result<(Sidecar, Vec<SocketAddr>)> {
    let sidecar = Sidecar::start(&mesh.cluster, Plan::caller(DESK, "desk").of(kind)).await?;
    let listeners: Vec<SocketAddr> = called.iter().map(|_| ports::free()).collect();
    let upstreams = called.iter().zip(&listeners).map(|((service, port), listen)| {
        json!({"listen": listen, "service": {"name": service, "namespace": "shop", "port": port}})
    });
    let upstreams: Vec<Value> = upstreams.collect();
    let spec = json!({"serviceAccount": "desk", "upstreams": upstreams});
    let index = mesh
        .cluster
        .apply(&object_in(DESK, "Workload", "desk", &spec))
        .await?;
    sidecar.clean(&mesh.cluster, index).await?;
    Ok((sidecar, listeners))
}

/// A service of the one server with two ports.
fn service(name: &str) -> String {
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "targetPort": 80, "appProtocol": "http"});
    let spec = json!({"selector": {"app": "one"}, "ports": [port("main", 80), port("more", 81)]});
    object("Service", name, &spec)
}

/// Asks, and compares status and mark.
async fn expect(listen: SocketAddr, path: &str, status: u16, mark: &str) -> anyhow::Result<()> {
    let answer = ask(listen, &format!("GET {path}")).await?;
    ensure!(
        (answer.status, answer.header("x-rule").as_str()) == (status, mark),
        "{path}: {} `{}`, not {status} `{mark}`",
        answer.status,
        answer.header("x-rule")
    );
    Ok(())
}

async fn a_route_holds_for_every_parent_and_for_the_port_that_it_names(
    kinds: [Kind; 2],
) -> anyhow::Result<()> {
    let mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let services = ["web", "other", "bare"].map(service).join("\n---\n");
    mesh.apply(&services).await?;
    let called = [("web", 80), ("web", 81), ("other", 80), ("bare", 81)];
    let (caller, listeners) = desk(&mesh, kinds[0], &called).await?;
    for listen in &listeners {
        answers(*listen).await?;
    }
    let [web, web_more, other, bare] = listeners[..] else {
        unreachable!("four were asked for")
    };
    let backend = json!({"name": "web", "port": 80});
    let parent = |name: &str, port: Option<u16>| match port {
        Some(port) => json!({"kind": "Service", "name": name, "port": port}),
        None => json!({"kind": "Service", "name": name}),
    };
    let several = json!({
        "parentRefs": [parent("web", Some(81)), parent("other", None)],
        "rules": rules(&[("/", "several")], &backend),
    });
    // Two routes of one port are one table: the longer prefix wins, of equals the route whose name comes first.
    let whole = json!({
        "parentRefs": [parent("web", None)],
        "rules": rules(&[("/whole", "whole"), ("/", "equal")], &backend),
    });
    let index = mesh
        .cluster
        .apply(&object("HTTPRoute", "a-several", &several))
        .await?;
    caller.clean(&mesh.cluster, index).await?;
    expect(web, "/", 200, "").await?;
    expect(web_more, "/", 200, "several").await?;
    expect(other, "/", 200, "several").await?;
    expect(bare, "/", 200, "").await?;
    let index = mesh
        .cluster
        .apply(&object("HTTPRoute", "b-whole", &whole))
        .await?;
    caller.clean(&mesh.cluster, index).await?;
    expect(web, "/", 200, "equal").await?;
    expect(web, "/whole", 200, "whole").await?;
    expect(web_more, "/", 200, "several").await?;
    expect(web_more, "/whole/x", 200, "whole").await?;
    expect(other, "/whole", 200, "several").await
}

async fn a_route_of_the_clients_namespace_holds_for_its_clients_alone(
    kinds: [Kind; 2],
) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let shop = mesh.service("web", "one").await?;
    let (caller, listeners) = desk(&mesh, kinds[0], &[("web", 80)]).await?;
    let desk = listeners[0];
    answers(desk).await?;
    let consumer = json!({
        "parentRefs": [{"kind": "Service", "name": "web", "namespace": "shop", "port": 80}],
        "rules": rules(&[("/only", "consumer")], &json!({"name": "web", "namespace": "shop", "port": 80})),
    });
    let index = mesh
        .cluster
        .apply(&object_in(DESK, "HTTPRoute", "web", &consumer))
        .await?;
    caller.clean(&mesh.cluster, index).await?;
    mesh.settled(index).await?;
    expect(desk, "/only", 200, "consumer").await?;
    expect(desk, "/", 404, "").await?;
    expect(shop, "/only", 200, "").await?;
    // The producer's route comes beside it: for the other namespace nothing changes, nothing of it is merged in.
    let producer = route(
        "web",
        &rules(&[("/", "producer")], &json!({"name": "web", "port": 80})),
    );
    let index = mesh.cluster.apply(&producer).await?;
    caller.clean(&mesh.cluster, index).await?;
    mesh.settled(index).await?;
    expect(shop, "/only", 200, "producer").await?;
    expect(desk, "/only", 200, "consumer").await?;
    expect(desk, "/", 404, "").await?;
    let shown = mesh
        .cluster
        .cli(&["get", "httproutes", "-n", DESK, "-o", "wide"])
        .await?;
    ensure!(
        shown.out.contains("shop/web:80: Accepted, ResolvedRefs") && shown.out.contains("live"),
        "{shown:?}"
    );
    // Without its own, the producer's holds for it too.
    let gone = mesh
        .cluster
        .cli(&["delete", "httproute", "web", "-n", DESK, "--wait=20s"])
        .await?;
    ensure!(gone.err.contains("live at all"), "{gone:?}");
    expect(desk, "/", 200, "producer").await
}
