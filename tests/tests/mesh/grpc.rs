//! Programs with gRPC's xDS in them, calling and called by every kind of member: once with the C core (from Python), once with grpc-go.

mod calls;
pub(crate) mod programs;
mod routes;

use std::net::SocketAddr;

use maille_tests::binaries::Grpc;
use maille_tests::cluster::Cluster;
use maille_tests::mesh::{NAMESPACE, object};
use maille_tests::ports;
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use serde_json::json;

use programs::{Call, Server, Tally, target, until};

macro_rules! for_each_library {
    ($($test:ident),+ $(,)?) => {
        mod c_core {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test(maille_tests::binaries::Grpc::C).await
            })+
        }

        mod go {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test(maille_tests::binaries::Grpc::Go).await
            })+
        }
    };
}
use for_each_library;

for_each_library!(
    a_program_calls_every_kind_of_server_and_is_known_there,
    every_kind_of_sidecar_calls_a_program_and_is_known_there,
    a_program_prefers_near_endpoints,
);

/// What a caller is told whom the server does not let in.
const DENIED: &str = "PERMISSION_DENIED";

async fn a_program_calls_every_kind_of_server_and_is_known_there(
    library: Grpc,
) -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let plan = Plan::caller(NAMESPACE, "caller").of(Kind::Grpc);
    let caller = Sidecar::start(&cluster, plan).await?;
    let servers = [
        (Kind::Native, Grpc::C),
        (Kind::Envoy, Grpc::C),
        (Kind::Grpc, Grpc::C),
        (Kind::Grpc, Grpc::Go),
    ];
    for (at, (kind, answers)) in servers.into_iter().enumerate() {
        let name = format!("server-{at}");
        let server = Server::start(&cluster, programs::plan(&name, kind), answers).await?;
        let call = Call::of(library, &caller, &target(&name));
        let tally = until(&call, "is answered", |tally| tally.ok == 1).await?;
        let seen: Vec<_> = tally.identities.keys().collect();
        assert_eq!(seen, [&caller.identity()], "{kind:?} {answers:?}");
        server.deny(&cluster, &caller.identity()).await?;
        until(&call, "is denied", |tally| tally.says(DENIED)).await?;
    }
    Ok(())
}

async fn every_kind_of_sidecar_calls_a_program_and_is_known_there(
    library: Grpc,
) -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let server = Server::start(&cluster, programs::plan("program", Kind::Grpc), library).await?;
    for kind in [Kind::Native, Kind::Envoy] {
        let (caller, listen) = caller(&cluster, kind, "program").await?;
        let call = Call::plain(library, listen);
        let tally = until(&call, "is answered", |tally| tally.ok == 1).await?;
        let seen: Vec<_> = tally.identities.keys().collect();
        assert_eq!(seen, [&caller.identity()], "{kind:?}");
        server.deny(&cluster, &caller.identity()).await?;
        until(&call, "is denied", |tally| tally.says(DENIED)).await?;
    }
    Ok(())
}

async fn a_program_prefers_near_endpoints(library: Grpc) -> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let plan = Plan::caller(NAMESPACE, "caller").of(Kind::Grpc);
    let caller = Sidecar::start(&cluster, plan).await?;
    let mut servers = Vec::new();
    for name in ["one", "two"] {
        let plan = programs::plan(name, Kind::Native).label("group", "spread");
        servers.push(Server::start(&cluster, plan, Grpc::C).await?);
    }
    let spread = programs::service("spread", ("group", "spread"));
    let at = |name: &str, locality: &str| {
        let spec = json!({"serviceAccount": name, "locality": locality});
        object("Workload", name, &spec)
    };
    let objects = [
        spread,
        at("caller", "eu/a"),
        at("one", "eu/a"),
        at("two", "eu/b"),
    ];
    cluster.apply(&objects.join("\n---\n")).await?;
    let call = Call::of(library, &caller, &target("spread")).with("--count 20");
    let all_from =
        |name: &'static str| move |tally: &Tally| tally.ok == 20 && tally.share(name) == 1.0;
    until(&call, "is answered in its zone", all_from("one")).await?;
    cluster.apply(&at("one", "us/a")).await?;
    until(&call, "is answered in its region", all_from("two")).await?;
    cluster.apply(&at("caller", "us/b")).await?;
    until(&call, "is answered where it is now", all_from("one")).await?;
    Ok(())
}

/// A client without xDS, whose sidecar takes its calls of one service at a listener.
async fn caller(
    cluster: &Cluster,
    kind: Kind,
    service: &str,
) -> anyhow::Result<(Sidecar, SocketAddr)> {
    let name = format!("caller-{kind:?}").to_lowercase();
    let sidecar = Sidecar::start(cluster, Plan::caller(NAMESPACE, &name).of(kind)).await?;
    let listen = ports::free();
    let upstream = json!({"listen": listen, "service": {"name": service, "port": 80}});
    let spec = json!({"serviceAccount": name, "upstreams": [upstream]});
    cluster.apply(&object("Workload", &name, &spec)).await?;
    Ok((sidecar, listen))
}
