//! One denied identity: 403 at the application, and counted with the identity in the sidecar's metrics.

use serde_json::json;

use crate::args::dev::{Family, Protocol};
use crate::dev::demo::{self, GUEST, NO_GUESTS, PRIVATE, WEB, Workload};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::Outcome;

use super::Check;

/// Requests of each kind.
const REQUESTS: u64 = 100;
/// The sidecar's counter of accepted connections, opaque streams included.
pub(super) const TCP_OPENED: &str = "maille_connections_total";
/// The sidecar's counter of decisions.
const DECISIONS: &str = "maille_authorizations_total";
/// An Envoy's counters of the same, as expressions that its names end in: of requests, of handshakes with those whom an opaque port's rules keep out, and
/// of connections in clear to such a port.
const ENVOY_DENIED: [&str; 3] = [
    "rbac.denied",
    "^listener.*ssl.fail_verify_san",
    "^tcp.denied.downstream_cx_total",
];

pub(super) async fn run(mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let load = |target: String, path: &str| Load {
        path: format!("{path}/page"),
        ..Load::of(Protocol::Http1, target, REQUESTS)
    };
    let (guest, web) = (
        mesh.target(&GUEST, demo::API, Family::V4),
        mesh.target(&WEB, demo::API, Family::V4),
    );
    let servers = WEB.set().api;
    let before = denials(mesh, &servers, NO_GUESTS, &GUEST).await?;
    let denied = mesh
        .count(Caller::Workload(GUEST), load(guest.clone(), PRIVATE))
        .await?;
    let after = denials(mesh, &servers, NO_GUESTS, &GUEST).await?;
    let counted = after.saturating_sub(before);
    let elsewhere = mesh
        .count(Caller::Workload(GUEST), load(guest, "/public"))
        .await?;
    let others = mesh
        .count(Caller::Workload(WEB), load(web, PRIVATE))
        .await?;
    let allowed = [&elsewhere, &others];
    let failed = denied.failed
        + denied.ok
        + allowed
            .iter()
            .map(|tally| tally.failed + tally.refused)
            .sum::<u64>();
    let passed = denied.refused == REQUESTS && failed == 0 && counted >= REQUESTS;
    let detail = json!({
        "identity": GUEST.identity(),
        "status": 403,
        "inMetrics": counted,
        "sameIdentityElsewhereOk": elsewhere.ok,
        "otherIdentityOk": others.ok,
        "errors": ([denied.errors, elsewhere.errors, others.errors].concat()),
    });
    let sent = denied.sent + elsewhere.sent + others.sent;
    Ok(vec![Check {
        name: "denied-identity".into(),
        passed,
        sent,
        failed,
        refused: denied.refused,
        detail,
    }])
}

/// How many requests and connections of a client the servers' sidecars say they have denied by a policy. An Envoy counts whatever it denies.
pub(super) async fn denials(
    mesh: &Mesh,
    servers: &[Workload],
    policy: &str,
    client: &Workload,
) -> Outcome<u64> {
    let identity = client.identity();
    let labels = [policy, "decision=\"deny\"", &identity];
    let mut count = 0;
    for server in servers {
        let metrics = mesh.ground.metrics(server).await?;
        count += sum(&metrics, DECISIONS, &labels);
        for counter in ENVOY_DENIED {
            count += mesh.ground.envoy_counted(server, counter).await?;
        }
    }
    Ok(count)
}

/// The sum of a counter's series whose labels hold all of `labels`.
pub(super) fn sum(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let series = metrics
        .lines()
        .filter(|line| line.split('{').next() == Some(name));
    let wanted = series.filter(|line| labels.iter().all(|label| line.contains(label)));
    wanted
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .map(|value| value as u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn only_the_series_that_are_meant_are_added_up() {
        let metrics = "# TYPE a counter\na_total{who=\"x\",what=\"deny\"} 3\na_total{who=\"y\",what=\"deny\"} 4\nab_total{who=\"x\",what=\"deny\"} 9\n";
        assert_eq!(sum(metrics, "a_total", &["deny"]), 7);
        assert_eq!(sum(metrics, "a_total", &["x", "deny"]), 3);
        assert_eq!(sum(metrics, "a_total", &["z"]), 0);
    }
}
