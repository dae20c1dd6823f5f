//! Every protocol, over v4 and v6: sent, failed, and as whom the client was seen at the server's side.

use serde_json::{Value, json};

use crate::args::dev::{Dev, Family, Protocol};
use crate::dev::demo::{self, Target, WEB};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::Outcome;

use super::Check;

/// The checks' names.
pub(super) const NAMES: [&str; 12] = [
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
];

const PROTOCOLS: [(&str, Protocol, Target); 6] = [
    ("http1", Protocol::Http1, demo::API),
    ("http2", Protocol::Http2, demo::API_H2),
    ("grpc", Protocol::Grpc, demo::GREETER_GRPC),
    ("grpc-stream", Protocol::GrpcStream, demo::GREETER_GRPC),
    ("websocket", Protocol::Websocket, demo::API),
    ("server-first-tcp", Protocol::Banner, demo::BANNER_TCP),
];

pub(super) async fn run(args: &Dev, mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let mut checks = Vec::new();
    for (name, protocol, target) in PROTOCOLS {
        for (suffix, family) in [("v4", Family::V4), ("v6", Family::V6)] {
            checks.push(
                one(
                    args,
                    mesh,
                    &format!("{name}-{suffix}"),
                    (protocol, target, family),
                )
                .await?,
            );
        }
    }
    // From here on nobody calls it until the outage.
    let target = mesh.target(&WEB, demo::IDLE, Family::V4);
    mesh.count(Caller::Workload(WEB), Load::of(Protocol::Http1, target, 4))
        .await?;
    Ok(checks)
}

async fn one(
    args: &Dev,
    mesh: &mut Mesh,
    name: &str,
    (protocol, target, family): (Protocol, Target, Family),
) -> Outcome<Check> {
    let before = tcp_connections(mesh, protocol).await?;
    let load = Load {
        family: Some(family),
        ..Load::of(protocol, mesh.target(&WEB, target, family), args.requests)
    };
    let tally = mesh.count(Caller::Workload(WEB), load).await?;
    let mut detail = json!({"servers": tally.servers, "p50Micros": tally.latency.p50, "p99Micros": tally.latency.p99});
    let seen = match protocol {
        // Raw TCP has no header: the server's sidecar tells whom it has verified.
        Protocol::Banner => {
            let counted = tcp_connections(mesh, protocol)
                .await?
                .saturating_sub(before);
            detail["seenBy"] = json!("the server's sidecar");
            detail["connectionsOfIdentity"] = json!(counted);
            counted >= tally.ok
        }
        _ => {
            detail["seenBy"] = json!("the application, by XFCC");
            tally
                .identities
                .keys()
                .all(|identity| *identity == WEB.identity())
        }
    };
    detail["identity"] = if seen {
        json!(WEB.identity())
    } else {
        Value::from(format!("{:?}", tally.identities))
    };
    Ok(Check::calls(name, &tally, seen, detail))
}

/// How many connections from the front the banner's sidecar has counted.
async fn tcp_connections(mesh: &Mesh, protocol: Protocol) -> Outcome<u64> {
    if protocol != Protocol::Banner {
        return Ok(0);
    }
    let metrics = mesh.ground.metrics(&demo::BANNER_HOST).await?;
    let labels = ["direction=\"inbound\"", "tls=\"mesh\"", &WEB.identity()];
    Ok(super::denied::sum(
        &metrics,
        super::denied::TCP_OPENED,
        &labels,
    ))
}
