//! `Service` and `Workload`: which ports and addresses lead where, who is near, who is well.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use maille_tests::application::Application;
use maille_tests::mesh::{Mesh, NAMESPACE, Server, answers, ask, object, policy};
use maille_tests::ports;
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

for_each_kind!(
    ports_and_namespaces_lead_where_they_say,
    a_server_that_speaks_first_is_heard_declared_or_not,
);

/// Twenty checks, 200 ms apart.
const PATIENCE: Duration = Duration::from_secs(4);

/// An object of any namespace, with a label `app`.
fn labelled(kind: &str, namespace: &str, name: &str, app: &str, spec: &Value) -> String {
    let mut object: Value =
        serde_json::from_str(&object(kind, name, spec)).expect("it was made of JSON");
    object["metadata"]["namespace"] = json!(namespace);
    object["metadata"]["labels"] = json!({"app": app});
    object.to_string()
}

/// The sidecar's explicit listeners, one for each service and port.
fn listeners(workload: &str, services: &[Value]) -> (String, Vec<SocketAddr>) {
    let addresses: Vec<_> = services.iter().map(|_| ports::free()).collect();
    let upstreams = services.iter().zip(&addresses);
    let upstreams: Vec<_> = upstreams
        .map(|(service, listen)| json!({"listen": listen, "service": service}))
        .collect();
    (
        object("Workload", workload, &json!({"upstreams": upstreams})),
        addresses,
    )
}

async fn ports_and_namespaces_lead_where_they_say(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    mesh.server(Plan::server("else", "abroad", "http", ports::free()))
        .await?;
    let port = |name: &str, port: u16, target: Value| json!({"name": name, "port": port, "targetPort": target, "appProtocol": "http"});
    let two = json!({"selector": {"app": "one"}, "ports": [port("first", 8080, json!(80)), port("second", 8081, json!("main"))]});
    let abroad = json!({"selector": {"app": "abroad"}, "ports": [port("main", 80, json!(80))]});
    // The route is for one port of the two, and sends what it takes into another namespace.
    let filters = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-rule", "value": "second"}]}}]);
    let backend = json!([{"name": "abroad", "namespace": "else", "port": 80}]);
    let route = json!({
        "parentRefs": [{"kind": "Service", "name": "two", "port": 8081}],
        "rules": [{"filters": filters, "backendRefs": backend}],
    });
    let (workload, listeners) = listeners(
        "caller",
        &[
            json!({"name": "two", "port": 8080}),
            json!({"name": "two", "port": 8081}),
            json!({"name": "abroad", "namespace": "else", "port": 80}),
        ],
    );
    let documents = [
        object("Service", "two", &two),
        labelled("Service", "else", "abroad", "abroad", &abroad),
        object("HTTPRoute", "two", &route),
        workload,
    ];
    mesh.apply(&documents.join("\n---\n")).await?;
    let expected = [("one", ""), ("abroad", "second"), ("abroad", "")];
    for (listen, (server, rule)) in listeners.iter().zip(expected) {
        answers(*listen).await?;
        let seen = ask(*listen, "GET /").await?.seen()?;
        let found = (seen.field("server"), seen.header("x-rule"));
        ensure!(found == (server.into(), rule.into()), "{found:?}");
    }
    Ok(())
}

/// An application whose server speaks first.
async fn greeter() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            open.spawn(async move {
                stream.write_all(b"220 hello\r\n").await.ok();
                let mut line = [0; 64];
                let length = stream.read(&mut line).await.unwrap_or_default();
                stream.write_all(&line[..length]).await.ok();
            });
        }
    });
    Ok(address)
}

async fn a_server_that_speaks_first_is_heard_declared_or_not(
    kinds: [Kind; 2],
) -> anyhow::Result<()> {
    let mesh = Mesh::of(kinds, "http", &[]).await?;
    let address = greeter().await?;
    let workload = |name: &str, protocol: Option<&str>| {
        let mut port = json!({"name": "mail", "port": address.port()});
        if let Some(protocol) = protocol {
            port["appProtocol"] = json!(protocol);
        }
        let spec = json!({"addresses": [address.ip()], "ports": [port]});
        labelled("Workload", NAMESPACE, name, name, &spec)
    };
    let service = |name: &str, protocol: Option<&str>| {
        let mut port = json!({"name": "mail", "port": 25, "targetPort": "mail"});
        if let Some(protocol) = protocol {
            port["appProtocol"] = json!(protocol);
        }
        object(
            "Service",
            name,
            &json!({"selector": {"app": name}, "ports": [port]}),
        )
    };
    let names = ["declared", "found"];
    let (caller, listeners) = listeners(
        "caller",
        &names.map(|name| json!({"name": name, "port": 25})),
    );
    let documents = [
        workload("declared", Some("tcp")),
        service("declared", Some("tcp")),
        workload("found", None),
        service("found", None),
        caller,
    ];
    mesh.apply(&documents.join("\n---\n")).await?;
    for (name, listen) in names.iter().zip(listeners) {
        let talk = wait::until(name, Duration::from_secs(15), async || {
            let mut stream = TcpStream::connect(listen).await?;
            let mut greeting = [0; 11];
            stream.read_exact(&mut greeting).await?;
            stream.write_all(b"EHLO").await?;
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await?;
            Ok::<_, std::io::Error>((greeting.escape_ascii().to_string(), rest))
        });
        let heard = talk.await?;
        ensure!(
            heard == ("220 hello\\r\\n".into(), "EHLO".into()),
            "{heard:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn near_endpoints_are_preferred_and_far_ones_stand_in() -> anyhow::Result<()> {
    nearest_first(Kind::Native).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_prefers_near_endpoints_too() -> anyhow::Result<()> {
    nearest_first(Kind::Envoy).await
}

async fn nearest_first(kind: Kind) -> anyhow::Result<()> {
    let mesh = Mesh::start("http", &[]).await?;
    let plan = Plan::caller(NAMESPACE, "local").of(kind);
    let mut local = Sidecar::prepare(&mesh.cluster, plan, |config| {
        config["workload"]["locality"] = json!("eu/a");
    })
    .await?;
    local.restart().await?;
    local.ready().await?;
    let mut documents = Vec::new();
    let mut applications = Vec::new();
    for (name, locality) in [("near", "eu/a"), ("region", "eu/b"), ("far", "us/a")] {
        let application = Application::start(name).await?;
        let address = application.address();
        let spec = json!({"addresses": [address.ip()], "locality": locality, "ports": [{"name": "main", "port": address.port()}]});
        documents.push(labelled("Workload", NAMESPACE, name, "spread", &spec));
        applications.push(application);
    }
    let port = json!({"name": "main", "port": 80, "targetPort": "main", "appProtocol": "http"});
    let (workload, listeners) = listeners("local", &[json!({"name": "spread", "port": 80})]);
    documents.extend([
        object(
            "Service",
            "spread",
            &json!({"selector": {"app": "spread"}, "ports": [port]}),
        ),
        workload,
    ]);
    let index = mesh.cluster.apply(&documents.join("\n---\n")).await?;
    local.clean(&mesh.cluster, index).await?;
    let listen = listeners[0];
    answers(listen).await?;
    for expected in ["near", "region", "far"] {
        for _ in 0..10 {
            let server = ask(listen, "GET /").await?.seen()?.field("server");
            ensure!(
                server == expected,
                "{server} answered, {expected} is nearer"
            );
        }
        let index = delete_workload(&mesh, expected).await?;
        local.clean(&mesh.cluster, index).await?;
    }
    let answer = ask(listen, "GET /").await?;
    ensure!(answer.status == 503, "{}", answer.status);
    Ok(())
}

async fn delete_workload(mesh: &Mesh, name: &str) -> anyhow::Result<u64> {
    let request = xds_api::generated::maille::v1::DeleteRequest {
        kind: "Workload".into(),
        namespace: NAMESPACE.into(),
        name: name.into(),
        client: maille_tests::cluster::writer(),
        sequence: 1,
        ..Default::default()
    };
    let mut admin = mesh.cluster.any().await?;
    Ok(admin.delete(request).await?.into_inner().index)
}

/// A server whose health is asked as `health` says.
async fn checked(mesh: &mut Mesh, name: &str, health: &Value) -> anyhow::Result<()> {
    let plan = Plan::server(NAMESPACE, name, "http", ports::free()).label("app", "checked");
    let application = Application::start_at(name, plan.ports[0].3).await?;
    let mut sidecar = Sidecar::prepare(&mesh.cluster, plan, |config| {
        config["workload"]["ports"][0]["health"] = health.clone();
    })
    .await?;
    sidecar.restart().await?;
    sidecar.ready().await?;
    let server = Server {
        application,
        sidecar,
    };
    mesh.servers.insert(name.to_owned(), server);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_says_it_is_unwell_gets_nothing() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &[]).await?;
    let http = |unhealthy: u32| json!({"http": {"path": "/up"}, "interval": "200ms", "timeout": "1s", "healthyAfter": 2, "unhealthyAfter": unhealthy});
    checked(&mut mesh, "quick", &http(2)).await?;
    checked(&mut mesh, "patient", &http(20)).await?;
    let listen = mesh.service("checked", "checked").await?;
    mesh.apply(&policy(
        "checked",
        &json!({"balancer": {"type": "roundRobin"}}),
    ))
    .await?;
    let seen = async || {
        let mut servers = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let answer = ask(listen, "GET /").await?;
            servers.insert(match answer.status {
                200 => answer.seen()?.field("server"),
                other => other.to_string(),
            });
        }
        Ok::<_, anyhow::Error>(servers.into_iter().collect::<Vec<_>>().join(" "))
    };
    let until = async |what: &str, expected: &str| {
        wait::until(what, Duration::from_secs(20), async || {
            let found = seen().await?;
            ensure!(found == expected, "{found}");
            Ok::<_, anyhow::Error>(())
        })
        .await
        .context(expected.to_owned())
    };
    until("both serve", "patient quick").await?;
    mesh.application("quick").fail(true);
    until("two failures were enough", "patient").await?;
    mesh.application("quick").fail(false);
    until("two successes were enough", "patient quick").await?;
    // The patient one fails requests for longer than the quick one did.
    mesh.application("patient").fail(true);
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE / 2 {
        let found = seen().await?;
        ensure!(found == "500 quick", "it was not patient: {found}");
    }
    until("twenty failures were enough", "quick").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_of_another_account_is_no_endpoint() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &[]).await?;
    let account =
        |account: &str| object("Workload", "guarded", &json!({"serviceAccount": account}));
    mesh.cluster.apply(&account("right")).await?;
    let plan = Plan::server(NAMESPACE, "guarded", "http", ports::free());
    let application = Application::start_at("guarded", plan.ports[0].3).await?;
    let mut sidecar = Sidecar::prepare(&mesh.cluster, plan, |_| ()).await?;
    sidecar.restart().await?;
    let listen = mesh.services("http", &[("guarded", "guarded")]).await?[0];
    let process = sidecar.process.as_ref().context("it runs")?;
    let refused = "has the service account `right`, and the sidecar proved";
    wait::until("it is refused", Duration::from_secs(20), async || {
        let log = process.log();
        wait::ensure(log.contains(refused), log)
    })
    .await?;
    let answer = ask(listen, "GET /").await?;
    ensure!(
        answer.status == 503 && application.requests() == 0,
        "{answer:?}"
    );
    mesh.cluster.apply(&account("guarded")).await?;
    sidecar.ready().await?;
    answers(listen).await
}
