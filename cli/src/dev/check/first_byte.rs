//! A server that speaks first: the time to its first byte through the mesh, beside a direct connection.

use std::time::Duration;

use serde_json::json;

use crate::args::dev::{Family, Protocol};
use crate::dev::demo::{self, WEB};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::Outcome;

use super::Check;

/// Connections of each kind.
const CONNECTIONS: u64 = 300;
/// What the mesh may add in the median: a few handovers between processes, and never a wait for a client that stays silent.
const ADDED_LIMIT: Duration = Duration::from_millis(20);
/// What no connection may take, even on a busy machine. A proxy that waits for the client's first bytes waits a second or ten.
const WORST_LIMIT: Duration = Duration::from_millis(900);

pub(super) async fn run(mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let through = mesh.target(&WEB, demo::BANNER_TCP, Family::V4);
    let load = |target: String| Load {
        connections: 1,
        ..Load::of(Protocol::Banner, target, CONNECTIONS)
    };
    let direct = mesh
        .count(Caller::Workload(WEB), load(mesh.ground.layout.direct()))
        .await?;
    let meshed = mesh.count(Caller::Workload(WEB), load(through)).await?;
    let added = meshed.latency.p50.saturating_sub(direct.latency.p50);
    let quick = u128::from(added) <= ADDED_LIMIT.as_micros()
        && u128::from(meshed.latency.max) <= WORST_LIMIT.as_micros();
    let detail = json!({
        "meshP50Micros": meshed.latency.p50, "meshP99Micros": meshed.latency.p99, "meshMaxMicros": meshed.latency.max,
        "directP50Micros": direct.latency.p50, "directP99Micros": direct.latency.p99, "directMaxMicros": direct.latency.max,
        "measured": "connect, greeting, and one line given back",
    });
    Ok(vec![Check::calls(
        "server-first-first-byte",
        &meshed,
        quick && direct.failed == 0,
        detail,
    )])
}
