//! Limits in time: of a route, of an attempt, of a policy, of a connect.

use std::time::{Duration, Instant};

use anyhow::ensure;
use maille_tests::mesh::{Mesh, answers, ask, object, policy, route};
use maille_tests::ports;
use maille_tests::sidecar::Kind;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

for_each_kind!(
    a_request_ends_when_its_time_is_up,
    a_connect_ends_when_its_time_is_up,
);

/// Processes share two cores with other tests: a limit may be felt this much late, never early.
const LATE: Duration = Duration::from_millis(900);
/// Envoy's clock ticks in milliseconds, and a timer counts from when its event loop last woke, which is before the request was read.
const EARLY: Duration = Duration::from_millis(5);

/// A route's timeouts, a policy, a request, and how it ends: with which status, and not before when.
struct Case {
    name: &'static str,
    route: Option<Value>,
    policy: Option<Value>,
    request: &'static str,
    status: u16,
    after: u64,
}

fn cases() -> Vec<Case> {
    let slow = "GET / x-reply-delay=5000";
    let case = |name, route, policy, request, status, after| Case {
        name,
        route,
        policy,
        request,
        status,
        after,
    };
    vec![
        case(
            "route",
            Some(json!({"request": "300ms"})),
            None,
            slow,
            504,
            300,
        ),
        case(
            "attempt",
            Some(json!({"backendRequest": "250ms"})),
            None,
            slow,
            504,
            250,
        ),
        case(
            "policy",
            None,
            Some(json!({"timeout": "350ms"})),
            slow,
            504,
            350,
        ),
        case(
            "route-over-policy",
            Some(json!({"request": "300ms"})),
            Some(json!({"timeout": "5s"})),
            slow,
            504,
            300,
        ),
        case(
            "none",
            Some(json!({"request": "0s"})),
            Some(json!({"timeout": "100ms"})),
            "GET / x-reply-delay=600",
            200,
            600,
        ),
        case(
            "in-time",
            Some(json!({"request": "3s"})),
            None,
            "GET / x-reply-delay=200",
            200,
            200,
        ),
    ]
}

async fn a_request_ends_when_its_time_is_up(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let cases = cases();
    let services: Vec<(&str, &str)> = cases.iter().map(|case| (case.name, "one")).collect();
    let listeners = mesh.services("http", &services).await?;
    for listen in &listeners {
        answers(*listen).await?;
    }
    let mut documents = Vec::new();
    for case in &cases {
        let rule = |timeouts: &Value| json!([{"backendRefs": [{"name": case.name, "port": 80}], "timeouts": timeouts}]);
        documents.extend(
            case.route
                .as_ref()
                .map(|timeouts| route(case.name, &rule(timeouts))),
        );
        documents.extend(case.policy.as_ref().map(|spec| policy(case.name, spec)));
    }
    mesh.apply(&documents.join("\n---\n")).await?;
    for (case, listen) in cases.iter().zip(&listeners) {
        let begin = Instant::now();
        let answer = ask(*listen, case.request).await?;
        let (took, after) = (begin.elapsed(), Duration::from_millis(case.after));
        ensure!(
            answer.status == case.status,
            "{}: {} {}",
            case.name,
            answer.status,
            answer.body
        );
        ensure!(
            took + EARLY >= after && took < after + LATE,
            "{}: after {took:?}, expected {after:?}",
            case.name
        );
    }
    Ok(())
}

/// A listener whose queue is full: the kernel answers no further connect.
pub(crate) fn deaf() -> (Socket, Vec<Socket>, std::net::SocketAddr) {
    let address = ports::free();
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let fill = (0..4).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // In progress, or refused later: only that the queue is full matters.
        socket.connect(&address.into()).unwrap_or_default();
        socket
    });
    let fill = fill.collect();
    (listener, fill, address)
}

async fn a_connect_ends_when_its_time_is_up(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let (_listener, _fill, address) = deaf();
    let workload =
        json!({"addresses": [address.ip()], "ports": [{"name": "main", "port": address.port()}]});
    let labelled = object("Workload", "deaf", &workload).replace(
        "\"name\": \"deaf\"",
        "\"name\": \"deaf\", \"labels\": {\"app\": \"deaf\"}",
    );
    let listen = mesh.services("http", &[("deaf", "deaf")]).await?[0];
    let service = json!({"selector": {"app": "deaf"}, "ports": [{"name": "main", "port": 80, "targetPort": "main", "appProtocol": "http"}]});
    let limit = Duration::from_millis(400);
    let documents = [
        labelled,
        object("Service", "deaf", &service),
        policy("deaf", &json!({"connectTimeout": "400ms"})),
    ];
    mesh.apply(&documents.join("\n---\n")).await?;
    let begin = Instant::now();
    let answer = ask(listen, "GET /").await?;
    let took = begin.elapsed();
    ensure!(
        answer.status == 503 || answer.status == 504,
        "{} {}",
        answer.status,
        answer.body
    );
    ensure!(took >= limit && took < limit + LATE, "after {took:?}");
    Ok(())
}
