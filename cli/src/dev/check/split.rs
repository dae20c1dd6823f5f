//! The 90/10 route, measured with ten thousand requests or more.

use serde_json::json;

use crate::args::dev::{Dev, Family, Protocol};
use crate::dev::demo::{self, WEB};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::Outcome;

use super::Check;

/// How far the share may be from 10 %: one hundredth of all requests. At 10,000 requests that is 3.3 standard deviations.
const TOLERANCE: f64 = 0.01;

pub(super) async fn run(args: &Dev, mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let target = mesh.target(&WEB, demo::API, Family::V4);
    let load = Load {
        connections: 8,
        ..Load::of(Protocol::Http1, target, args.split_requests)
    };
    let tally = mesh.count(Caller::Workload(WEB), load).await?;
    let second = tally
        .servers
        .get(demo::API_V2.name)
        .copied()
        .unwrap_or_default();
    let share = second as f64 / tally.ok.max(1) as f64;
    let detail = json!({"share": share, "servers": tally.servers, "p50Micros": tally.latency.p50, "p99Micros": tally.latency.p99});
    Ok(vec![Check::calls(
        "split-90-10",
        &tally,
        (share - 0.10).abs() <= TOLERANCE,
        detail,
    )])
}
