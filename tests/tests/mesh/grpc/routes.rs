//! Routes and policies as a program with gRPC's xDS keeps them: one case for each line of the table in `docs/grpc.md`.

use std::time::Duration;

use maille_tests::binaries::Grpc;
use maille_tests::cluster::Cluster;
use maille_tests::mesh::{NAMESPACE, policy, route};
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use serde_json::{Value, json};

use super::programs::{self, Call, Server, Tally, target, until};

super::for_each_library!(what_is_written_is_kept);

/// At a true share of 10 % the standard deviation of 2,000 draws is 0.7 points: five of them are 3.4.
const TOLERANCE: f64 = 0.034;

/// The service, what is written of it, how it is called, and what must come of that.
struct Case {
    name: &'static str,
    rules: Option<Value>,
    policy: Option<Value>,
    call: &'static str,
    good: fn(&Tally) -> bool,
}

fn routed(name: &'static str, rules: Value, call: &'static str, good: fn(&Tally) -> bool) -> Case {
    Case {
        name,
        rules: Some(rules),
        policy: None,
        call,
        good,
    }
}

fn tuned(name: &'static str, policy: Value, call: &'static str, good: fn(&Tally) -> bool) -> Case {
    Case {
        name,
        rules: None,
        policy: Some(policy),
        call,
        good,
    }
}

fn to(name: &str) -> Value {
    json!([{"name": name, "port": 80}])
}

/// What is matched goes to `two`, all else to `one`.
fn matching(condition: &Value) -> Value {
    json!([
        {"matches": [condition], "backendRefs": to("two")},
        {"backendRefs": to("one")},
    ])
}

fn only_two(tally: &Tally) -> bool {
    tally.failed == 0 && tally.ok > 0 && tally.share("two") == 1.0
}

fn only_one(tally: &Tally) -> bool {
    tally.failed == 0 && tally.ok > 0 && tally.share("one") == 1.0
}

fn routes() -> Vec<Case> {
    let weighted = json!([{"backendRefs": [
        {"name": "one", "port": 80, "weight": 90},
        {"name": "two", "port": 80, "weight": 10},
    ]}]);
    let method = json!({"path": {"type": "Exact", "value": "/demo.Greeter/Other"}});
    let prefix = json!({"path": {"type": "PathPrefix", "value": "/demo.Greeter"}});
    let regular = json!({"path": {"type": "RegularExpression", "value": "/demo[.]Greeter/O.*"}});
    let header = json!({"headers": [{"name": "x-who", "value": "me"}]});
    let redirect = json!([{"filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 302, "hostname": "elsewhere"}}]}]);
    let limited = json!([{"backendRefs": to("one"), "timeouts": {"request": "300ms"}}]);
    vec![
        routed(
            "weights",
            weighted,
            "--count 2000 --connections 4",
            |tally| tally.failed == 0 && (tally.share("two") - 0.1).abs() <= TOLERANCE,
        ),
        routed(
            "exact",
            matching(&method),
            "--method /demo.Greeter/Other",
            only_two,
        ),
        routed("exact-not", matching(&method), "", only_one),
        routed("prefix", matching(&prefix), "", only_two),
        routed(
            "prefix-not",
            matching(&prefix),
            "--method /demo.Greeters/Hello",
            only_one,
        ),
        routed(
            "regular",
            matching(&regular),
            "--method /demo.Greeter/Other",
            only_two,
        ),
        routed("header", matching(&header), "--header x-who:me", only_two),
        routed(
            "header-not",
            matching(&header),
            "--header x-who:you",
            only_one,
        ),
        routed("method", matching(&json!({"method": "GET"})), "", only_one),
        routed("post", matching(&json!({"method": "POST"})), "", only_two),
        routed("redirect", redirect, "", |tally| tally.says("UNAVAILABLE")),
        routed("timeout", limited, "--header x-delay:5000", |tally| {
            tally.says("DEADLINE_EXCEEDED")
                && tally.first_error_after() < Some(Duration::from_millis(3000))
        }),
    ]
}

fn policies() -> Vec<Case> {
    let retries =
        |on: &str| json!({"retries": {"attempts": 2, "on": [on], "backoff": {"base": "1ms"}}});
    let ejecting = json!({
        "balancer": {"type": "roundRobin"},
        "ejection": {"consecutiveErrors": 3, "interval": "200ms", "baseTime": "60s"},
    });
    vec![
        tuned(
            "retried",
            retries("unavailable"),
            "--header x-code:UNAVAILABLE --header x-fail-first:2",
            |tally| tally.ok == 1,
        ),
        tuned(
            "retried-too-often",
            retries("unavailable"),
            "--header x-code:UNAVAILABLE",
            |tally| tally.says("attempt 3"),
        ),
        tuned(
            "not-retried",
            retries("internal"),
            "--header x-code:UNAVAILABLE",
            |tally| tally.says("attempt 1"),
        ),
        tuned(
            "policy-timeout",
            json!({"timeout": "300ms"}),
            "--header x-delay:5000",
            |tally| tally.says("DEADLINE_EXCEEDED"),
        ),
        tuned(
            "bounded",
            json!({"limits": {"maxRequests": 2}}),
            "--count 40 --connections 8 --header x-delay:100",
            |tally| tally.ok > 0 && tally.failed > 0 && tally.refused == 0,
        ),
        // A third of all calls would fail.
        tuned(
            "ejecting",
            ejecting,
            "--count 400 --header x-delay:5 --header x-code:UNAVAILABLE --header x-fail-at:one",
            |tally| (1..80).contains(&tally.failed),
        ),
        tuned(
            "never-ejecting",
            json!({"ejection": {"consecutiveErrors": 0}}),
            "--count 90 --header x-code:UNAVAILABLE --header x-fail-at:one",
            |tally| tally.failed >= 25,
        ),
    ]
}

async fn what_is_written_is_kept(library: Grpc) -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let plan = Plan::caller(NAMESPACE, "caller").of(Kind::Grpc);
    let caller = Sidecar::start(&cluster, plan).await?;
    let mut servers = Vec::new();
    // Behind sidecars: a server of grpcio 1.85.1 that has xDS in it aborts where a call ends in an error before it has sent anything.
    for name in ["one", "two", "three"] {
        let plan = programs::plan(name, Kind::Native).label("app", "pool");
        servers.push(Server::start(&cluster, plan.label("own", name), library).await?);
    }
    let cases: Vec<Case> = routes().into_iter().chain(policies()).collect();
    let mut documents: Vec<String> = ["one", "two"]
        .map(|name| programs::service(name, ("own", name)))
        .into();
    for case in &cases {
        documents.push(programs::service(case.name, ("app", "pool")));
        documents.extend(case.rules.as_ref().map(|rules| route(case.name, rules)));
        documents.extend(case.policy.as_ref().map(|spec| policy(case.name, spec)));
    }
    cluster.apply(&documents.join("\n---\n")).await?;
    for case in &cases {
        let call = Call::of(library, &caller, &target(case.name)).with(case.call);
        until(&call, "is as it is written", case.good).await?;
    }
    Ok(())
}
