//! The 90/10 route, measured with ten thousand requests or more.

use serde_json::json;

use crate::args::dev::{Dev, Family, Protocol};
use crate::dev::app::tally::Tally;
use crate::dev::demo::{Set, WEB};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::Outcome;

use super::Check;

/// How far the share may be from 10 %: one hundredth of all requests. At 10,000 requests that is 3.3 standard deviations.
const TOLERANCE: f64 = 0.01;

pub(super) async fn run(args: &Dev, mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let check = measure(args, mesh, "split-90-10", (WEB.set(), WEB.set()));
    Ok(vec![check.await?])
}

/// The share of the second version's answers to one set's front.
pub(super) async fn measure(
    args: &Dev,
    mesh: &mut Mesh,
    name: &str,
    (client, server): (&Set, &Set),
) -> Outcome<Check> {
    let target = mesh.target(&client.web, server.api_http(), Family::V4);
    let load = Load {
        connections: 8,
        ..Load::of(Protocol::Http1, target, args.split_requests)
    };
    let tally = mesh.count(Caller::Workload(client.web), load).await?;
    Ok(judge(name, &tally, server.api[1].name))
}

/// Whether this server gave a tenth of the answers.
pub(super) fn judge(name: &str, tally: &Tally, second: &str) -> Check {
    let second = tally.servers.get(second).copied().unwrap_or_default();
    let share = second as f64 / tally.ok.max(1) as f64;
    let detail = json!({"share": share, "servers": tally.servers, "p50Micros": tally.latency.p50, "p99Micros": tally.latency.p99});
    let kept = (share - 0.10).abs() <= TOLERANCE;
    Check::calls(name, tally, kept, detail)
}
