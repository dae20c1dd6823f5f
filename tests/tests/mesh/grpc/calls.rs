//! `GRPCRoute` with real gRPC programs: as clients that speak xDS, and behind sidecars of both kinds.

use maille_tests::binaries::Grpc;
use maille_tests::cluster::Cluster;
use maille_tests::mesh::{NAMESPACE, object};
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use serde_json::{Value, json};

use super::programs::{self, Call, Server, Tally, target, until};

super::for_each_library!(a_call_goes_where_the_most_exact_rule_says);

fn to(server: &str) -> Value {
    json!([{"name": server, "port": 80}])
}

fn only(server: &'static str) -> impl Fn(&Tally) -> bool {
    move |tally| tally.failed == 0 && tally.ok > 0 && tally.share(server) == 1.0
}

async fn a_call_goes_where_the_most_exact_rule_says(library: Grpc) -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let plan = Plan::caller(NAMESPACE, "caller").of(Kind::Grpc);
    let program = Sidecar::start(&cluster, plan).await?;
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        let plan = programs::plan(name, Kind::Native);
        servers.push(Server::start(&cluster, plan, library).await?);
    }
    cluster
        .apply(&programs::service("called", ("app", "one")))
        .await?;
    let (_native, by_native) = super::caller(&cluster, Kind::Native, "called").await?;
    let (_envoy, by_envoy) = super::caller(&cluster, Kind::Envoy, "called").await?;
    let calls = || {
        [
            (
                Call::of(library, &program, &target("called")),
                "UNAVAILABLE",
            ),
            (Call::plain(library, by_native), "UNIMPLEMENTED"),
            (Call::plain(library, by_envoy), "UNIMPLEMENTED"),
        ]
    };
    for (call, _) in calls() {
        until(&call, "is answered", |tally| tally.ok == 1).await?;
    }
    let rules = json!([
        {"matches": [{"method": {"service": "demo.Greeter"}}], "backendRefs": to("one")},
        {"matches": [{"method": {"service": "demo.Greeter", "method": "Other"}}], "backendRefs": to("two")},
        {"matches": [{"method": {"service": "demo.Greeter"}, "headers": [{"name": "x-who", "value": "me"}]}], "backendRefs": to("three")},
    ]);
    let spec = json!({"parentRefs": [{"kind": "Service", "name": "called"}], "rules": rules});
    cluster.apply(&object("GRPCRoute", "called", &spec)).await?;
    for (call, unmatched) in calls() {
        let with = |line: &str| call.clone().with(line);
        until(&with("--header x-who:me"), "goes by header", only("three")).await?;
        until(
            &with("--method /demo.Greeter/Other --header x-who:me"),
            "goes by method",
            only("two"),
        )
        .await?;
        until(&with(""), "goes by service", only("one")).await?;
        let other = with("--method /demo.Greeters/Hello");
        until(&other, "is refused", |tally| tally.says(unmatched)).await?;
    }
    Ok(())
}
