//! Every protocol, over v4 and v6: sent, failed, and as whom the client was seen at the server's side.

use serde_json::{Value, json};

use crate::args::dev::{Dev, Family, Protocol};
use crate::dev::app::tally::Tally;
use crate::dev::demo::{self, Kind, Set, Target, WEB, Workload};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::Outcome;

use super::Check;
use super::denied::{TCP_OPENED, sum};

/// The checks' names.
pub(super) const NAMES: [&str; 14] = [
    "http1-v4",
    "http1-v6",
    "http2-v4",
    "http2-v6",
    "grpc-v4",
    "grpc-v6",
    "grpc-stream-v4",
    "grpc-stream-v6",
    "websocket-v4",
    "websocket-v6",
    "server-first-tcp-v4",
    "server-first-tcp-v6",
    "application-tls-v4",
    "application-tls-v6",
];

/// The families and how names of checks say them.
pub(super) const FAMILIES: [(&str, Family); 2] = [("v4", Family::V4), ("v6", Family::V6)];

/// A protocol, and who speaks it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spoken {
    pub(super) name: &'static str,
    pub(super) protocol: Protocol,
    pub(super) target: fn(&Set) -> Target,
    pub(super) servers: fn(&Set) -> Vec<Workload>,
}

impl Spoken {
    /// Whether the mesh carries bytes and sees no requests.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(self.protocol, Protocol::Banner | Protocol::Tls)
    }
}

/// All that the demo's applications speak.
pub(super) const PROTOCOLS: [Spoken; 7] = [
    spoken("http1", Protocol::Http1, Set::api_http, api),
    spoken("http2", Protocol::Http2, Set::api_http2, api),
    spoken("grpc", Protocol::Grpc, Set::greeter_grpc, greeter),
    spoken(
        "grpc-stream",
        Protocol::GrpcStream,
        Set::greeter_grpc,
        greeter,
    ),
    spoken("websocket", Protocol::Websocket, Set::api_http, api),
    spoken(
        "server-first-tcp",
        Protocol::Banner,
        Set::banner_tcp,
        banner,
    ),
    spoken("application-tls", Protocol::Tls, Set::api_secure, api),
];

const fn spoken(
    name: &'static str,
    protocol: Protocol,
    target: fn(&Set) -> Target,
    servers: fn(&Set) -> Vec<Workload>,
) -> Spoken {
    Spoken {
        name,
        protocol,
        target,
        servers,
    }
}

fn api(set: &Set) -> Vec<Workload> {
    set.api.to_vec()
}

fn greeter(set: &Set) -> Vec<Workload> {
    vec![set.greeter]
}

fn banner(set: &Set) -> Vec<Workload> {
    vec![set.banner]
}

pub(super) async fn run(args: &Dev, mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let mut checks = Vec::new();
    for spoken in &PROTOCOLS {
        for (suffix, family) in FAMILIES {
            let name = format!("{}-{suffix}", spoken.name);
            let load = Load {
                family: Some(family),
                ..Load::of(spoken.protocol, "", args.requests)
            };
            let called = call(mesh, &WEB, WEB.set(), spoken, load).await?;
            let Called {
                tally,
                seen,
                detail,
            } = called;
            checks.push(Check::calls(&name, &tally, seen, detail));
        }
    }
    // From here on nobody calls it until the outage.
    let target = mesh.target(&WEB, demo::IDLE, Family::V4);
    mesh.count(Caller::Workload(WEB), Load::of(Protocol::Http1, target, 4))
        .await?;
    Ok(checks)
}

/// What became of calls.
pub(super) struct Called {
    pub(super) tally: Tally,
    /// Whether the server's side saw the client as who it is.
    pub(super) seen: bool,
    pub(super) detail: Value,
}

/// Calls a set's server; `load` says how, but for its target.
pub(super) async fn call(
    mesh: &mut Mesh,
    client: &Workload,
    server: &Set,
    spoken: &Spoken,
    load: Load,
) -> Outcome<Called> {
    let servers = (spoken.servers)(server);
    let counts = spoken.is_opaque() && server.kind == Kind::Native;
    let before = match counts {
        true => opened(mesh, &servers, client).await?,
        false => 0,
    };
    let family = load.family.unwrap_or(Family::V4);
    let target = mesh.target(client, (spoken.target)(server), family);
    let tally = mesh
        .count(Caller::Workload(*client), Load { target, ..load })
        .await?;
    let mut detail = json!({"servers": tally.servers, "p50Micros": tally.latency.p50, "p99Micros": tally.latency.p99});
    let identity = client.identity();
    let seen = if counts {
        // Raw TCP has no header: the server's sidecar tells whom it has verified.
        let counted = opened(mesh, &servers, client).await?.saturating_sub(before);
        detail["seenBy"] = json!("the server's sidecar");
        detail["connectionsOfIdentity"] = json!(counted);
        tally.connections > 0 && counted >= tally.connections
    } else if spoken.is_opaque() {
        detail["seenBy"] = json!("the server's Envoy, which refuses another identity");
        true
    } else {
        detail["seenBy"] = json!("the application, by XFCC");
        tally.identities.keys().all(|seen| *seen == identity)
    };
    detail["identity"] = if seen {
        json!(identity)
    } else {
        Value::from(format!("{:?}", tally.identities))
    };
    Ok(Called {
        tally,
        seen,
        detail,
    })
}

/// How many connections from a client the servers' sidecars have counted.
async fn opened(mesh: &Mesh, servers: &[Workload], client: &Workload) -> Outcome<u64> {
    let identity = client.identity();
    let labels = ["direction=\"inbound\"", "tls=\"mesh\"", &identity];
    let mut count = 0;
    for server in servers {
        count += sum(&mesh.ground.metrics(server).await?, TCP_OPENED, &labels);
    }
    Ok(count)
}
