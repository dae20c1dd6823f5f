//! `TrafficPolicy`, retries, beyond HTTP/1 statuses: gRPC statuses, streams that were refused, endpoints that cannot be reached.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use maille_tests::client::{Answer, send_h2};
use maille_tests::mesh::{Mesh, answers, ask, object, policy};
use maille_tests::sidecar::Kind;
use maille_tests::{ports, wait};
use serde_json::{Value, json};

for_each_kind!(
    a_grpc_status_is_tried_again_where_the_policy_says_so,
    a_stream_that_the_application_refused_or_reset_is_seen_as_that,
    a_request_that_never_left_goes_to_another_endpoint_whatever_the_policy,
);

/// One further attempt where `on` names the failure.
fn retries(on: &str) -> Value {
    json!({"retries": {"attempts": 1, "on": [on], "backoff": {"base": "1ms"}, "budget": {"percent": 100, "minConcurrency": 10}}})
}

/// A gRPC call whose first attempt meets `trouble`, a header.
async fn call(listen: SocketAddr, key: &str, trouble: (&str, u32)) -> anyhow::Result<Answer> {
    let request = Request::post("http://service.test/test.Echo/Call")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-key", key)
        .header("x-fail-first", "1")
        .header(trouble.0, trouble.1.to_string())
        .body(Full::new(Bytes::from_static(b"\0\0\0\0\x05hello")))?;
    send_h2(listen, request).await
}

/// The gRPC status, wherever it stands.
fn status(answer: &Answer) -> &str {
    let status = answer.trailers.get("grpc-status");
    let status = status.or(answer.headers.get("grpc-status"));
    status
        .and_then(|status| status.to_str().ok())
        .unwrap_or_default()
}

/// Waits until calls to a listener succeed.
async fn answers_calls(listen: SocketAddr) -> anyhow::Result<()> {
    wait::until("the service answers", Duration::from_secs(20), async || {
        let answer = call(listen, "warm", ("x-reply-grpc-status", 0)).await?;
        ensure!(status(&answer) == "0", "{answer:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

async fn a_grpc_status_is_tried_again_where_the_policy_says_so(
    kinds: [Kind; 2],
) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "grpc", &["one"]).await?;
    // Name in the policy and its number.
    let cases = [
        ("cancelled", 1),
        ("deadline-exceeded", 4),
        ("resource-exhausted", 8),
        ("internal", 13),
        ("unavailable", 14),
    ];
    let services: Vec<(&str, &str)> = cases.iter().map(|case| (case.0, "one")).collect();
    let listeners = mesh.services("grpc", &services).await?;
    let policies: Vec<String> = cases
        .iter()
        .map(|(name, _)| policy(name, &retries(name)))
        .collect();
    mesh.apply(&policies.join("\n---\n")).await?;
    for ((name, number), listen) in cases.iter().zip(&listeners) {
        answers_calls(*listen).await?;
        let answer = call(*listen, name, ("x-reply-grpc-status", *number)).await?;
        let attempts = mesh.application("one").attempts(name);
        ensure!(
            attempts == 2 && status(&answer) == "0",
            "{name}: {attempts} attempts, {answer:?}"
        );
        let other = format!("{name}-other");
        call(*listen, &other, ("x-reply-grpc-status", 5)).await?;
        ensure!(
            mesh.application("one").attempts(&other) == 1,
            "{name}: not found was tried again"
        );
    }
    Ok(())
}

async fn a_stream_that_the_application_refused_or_reset_is_seen_as_that(
    [calls, _]: [Kind; 2],
) -> anyhow::Result<()> {
    // An Envoy before the application answers for it: nobody can tell then.
    let mut mesh = Mesh::of([calls, Kind::Native], "grpc", &["one"]).await?;
    // The condition, what the application does, and how often it is asked.
    let cases = [
        ("refused-stream", "x-reply-refuse", 2),
        ("refused-stream", "x-reply-close", 1),
        ("reset", "x-reply-close", 2),
        // To an Envoy a refused stream is a reset too.
        (
            "reset",
            "x-reply-refuse",
            if calls == Kind::Envoy { 2 } else { 1 },
        ),
    ];
    let listeners = mesh
        .services("grpc", &[("refused-stream", "one"), ("reset", "one")])
        .await?;
    for listen in &listeners {
        answers_calls(*listen).await?;
    }
    let policies = ["refused-stream", "reset"].map(|name| policy(name, &retries(name)));
    mesh.apply(&policies.join("\n---\n")).await?;
    for (condition, trouble, expected) in cases {
        let listen = listeners[usize::from(condition == "reset")];
        let key = format!("{condition}-{trouble}");
        let answer = call(listen, &key, (trouble, 1)).await?;
        let attempts = mesh.application("one").attempts(&key);
        let end = if expected == 2 { "0" } else { "14" };
        ensure!(
            attempts == expected && status(&answer) == end,
            "{key}: {attempts} attempts, {answer:?}"
        );
    }
    Ok(())
}

async fn a_request_that_never_left_goes_to_another_endpoint_whatever_the_policy(
    kinds: [Kind; 2],
) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    // A second endpoint on which nobody listens.
    let nobody = ports::free();
    let workload = object(
        "Workload",
        "nobody",
        &json!({"addresses": [nobody.ip()], "ports": [{"name": "main", "port": nobody.port()}]}),
    );
    let mut workload: Value = serde_json::from_str(&workload)?;
    workload["metadata"]["labels"] = json!({"app": "one"});
    let names = ["connect-failure", "reset", "none", "only-nobody"];
    let services = names.map(|name| (name, "one"));
    let listeners = mesh.services("http", &services).await?;
    for listen in &listeners {
        answers(*listen).await?;
    }
    let spread = |name: &str, app: &str, retries: Value| {
        let port = json!({"name": "main", "port": 80, "targetPort": "main", "appProtocol": "http"});
        let service = json!({"selector": {"app": app}, "ports": [port]});
        let policy = policy(
            name,
            &json!({"retries": retries["retries"], "balancer": {"type": "roundRobin"}, "ejection": {"consecutiveErrors": 0}}),
        );
        [object("Service", name, &service), policy].join("\n---\n")
    };
    workload["metadata"]["labels"]["alone"] = json!("yes");
    let documents = [
        workload.to_string(),
        spread(names[0], "one", retries("connect-failure")),
        spread(names[1], "one", retries("reset")),
        spread(names[2], "one", json!({"retries": {"attempts": 0}})),
    ];
    mesh.apply(&documents.join("\n---\n")).await?;
    for (name, listen) in names.iter().zip(&listeners).take(3) {
        for number in 0..20 {
            let answer = ask(*listen, "GET /").await?;
            ensure!(
                answer.status == 200,
                "{name}, request {number}: {} {}",
                answer.status,
                answer.body
            );
        }
    }
    // That it was there all the time is seen where nobody else is.
    let port = json!({"name": "main", "port": 80, "targetPort": "main", "appProtocol": "http"});
    let alone = json!({"selector": {"alone": "yes"}, "ports": [port]});
    mesh.apply(&object("Service", names[3], &alone)).await?;
    let answer = ask(listeners[3], "GET /").await?;
    let says_why = match kinds[0] {
        Kind::Native | Kind::Grpc => answer.header("maille-error") == "connect",
        Kind::Envoy => answer.body.contains("connection failure"),
    };
    ensure!(answer.status == 503 && says_why, "{answer:?}");
    Ok(())
}
