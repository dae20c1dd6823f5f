//! Deaths of controllers under steady load: the leader killed, a follower killed, leadership handed over, every controller restarted in turn. During each an endpoint is replaced, a destination
//! is called for the first time, new connections are made and a client is restarted. Nothing may fail and no write may be lost.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::LocalSet;
use tokio::time::Instant;
use xds_api::generated::maille::v1 as api;

use crate::args::dev::{Dev, Family, Protocol};
use crate::dev::app::tally::Tally;
use crate::dev::demo::{self, API_V1, API_V1_SPARE, FRESH, Target, WEB, Workload};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::{Failure, Outcome};

use super::steady::Steady;
use super::writers::{Writers, Written};
use super::{Check, until};

/// The checks' names.
pub(super) const NAMES: [&str; 6] = [
    "leader-killed",
    "follower-killed",
    "leadership-handed-over",
    "controllers-restarted",
    "failover-time",
    "no-write-lost",
];

/// The time within which writes are to be accepted again, in the median.
const MEDIAN_LIMIT: Duration = Duration::from_millis(800);
/// When it is given up.
const ACCEPT_LIMIT: Duration = Duration::from_secs(30);
/// Calls to the new destination, and new connections.
const CALLS: u64 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    LeaderKilled,
    FollowerKilled,
    HandedOver,
    RestartedInTurn,
}

pub(super) async fn run(args: &Dev, mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    LocalSet::new().run_until(all(args, mesh)).await
}

async fn all(args: &Dev, mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    let writers = Writers::start(&mesh.controllers, "failover");
    let mut steady = Steady::start(args, mesh)?;
    let mut checks = Vec::new();
    let mut times = Vec::new();
    let disturbances = [
        Disturbance::LeaderKilled,
        Disturbance::FollowerKilled,
        Disturbance::HandedOver,
        Disturbance::RestartedInTurn,
    ];
    for (number, disturbance) in disturbances.into_iter().enumerate() {
        let (check, next, time) = disturbed(
            args,
            mesh,
            &writers,
            steady,
            (disturbance, NAMES[number], FRESH[number]),
        )
        .await?;
        steady = next;
        checks.push(check);
        times.extend(time.filter(|_| disturbance == Disturbance::LeaderKilled));
    }
    while times.len() < args.kills as usize {
        times.push(kill_leader(mesh, &writers).await?);
    }
    let (last, by_kind) = steady.stop().await?;
    let written = writers.stop(&mesh.controllers).await?;
    checks.push(failover_time(times, &last, &by_kind));
    checks.push(no_write_lost(&written));
    Ok(checks)
}

/// One disturbance, with everything that has to go well meanwhile.
async fn disturbed(
    args: &Dev,
    mesh: &mut Mesh,
    writers: &Writers,
    before: Steady,
    (disturbance, name, fresh): (Disturbance, &str, Target),
) -> Outcome<(Check, Steady, Option<Duration>)> {
    let since = Instant::now();
    let victim = disturb(mesh, disturbance).await?;
    // Only what is sent from here on was certainly not accepted before.
    let done = Instant::now();
    let (replaced, by, probes) = replace_endpoint(mesh).await?;
    let first = mesh.target(&WEB, fresh, Family::V4);
    let fresh_calls = mesh
        .count(
            Caller::Workload(WEB),
            Load::of(Protocol::Http1, first, CALLS),
        )
        .await?;
    let target = mesh.target(&WEB, demo::API, Family::V4);
    let connections = mesh
        .count(
            Caller::Workload(WEB),
            Load {
                reconnect: true,
                ..Load::of(Protocol::Http1, target, CALLS)
            },
        )
        .await?;
    let (old, by_kind) = before.stop().await?;
    let mut restarted = Steady::start(args, mesh)?;
    restarted.counting().await?;
    let time = accepted(writers, since, done).await?;
    let accepted = time.is_some();
    if let Some(victim) = victim {
        mesh.controllers.start(victim)?;
    }
    mesh.controllers.ready().await?;
    let detail = json!({
        "disturbed": victim.map(|victim| mesh.controllers.members[victim].name),
        "writesAcceptedAfterMillis": time.map(|time| time.as_millis() as u64),
        "endpointReplaced": format!("{} by {}", replaced.name, by.name),
        "callsMeanwhile": counts(&probes),
        "newDestination": counts(&fresh_calls),
        "newConnections": counts(&connections),
        "steadyLoad": by_kind,
        "clientRestarted": true,
    });
    Ok((
        Check::calls(
            name,
            &total(&[&fresh_calls, &connections, &old, &probes]),
            accepted,
            detail,
        ),
        restarted,
        time,
    ))
}

/// How long after `since` a write was acknowledged that was sent after `done`, when the disturbance was complete.
async fn accepted(writers: &Writers, since: Instant, done: Instant) -> Outcome<Option<Duration>> {
    let look = async || Ok((writers.accepted(done).is_some(), writers.accepted(done)));
    let (_, at) = until(ACCEPT_LIMIT, look).await?;
    Ok(at.map(|at| at - since))
}

/// Does it, and says which controller has to be started again.
async fn disturb(mesh: &mut Mesh, disturbance: Disturbance) -> Outcome<Option<usize>> {
    let leader = mesh.controllers.leader().await?;
    match disturbance {
        Disturbance::RestartedInTurn => {
            for member in 0..mesh.controllers.members.len() {
                mesh.controllers.restart(member).await?;
            }
            Ok(None)
        }
        Disturbance::LeaderKilled => mesh.controllers.kill(leader).await.map(|()| Some(leader)),
        Disturbance::FollowerKilled => {
            let follower = (leader + 1) % mesh.controllers.members.len();
            mesh.controllers
                .kill(follower)
                .await
                .map(|()| Some(follower))
        }
        Disturbance::HandedOver => {
            let cluster = mesh.controllers.cluster();
            let request = api::TransferLeadershipRequest {
                member: String::new(),
            };
            let answer = cluster
                .call_once(async |mut client| {
                    Ok(client
                        .transfer_leadership(request.clone())
                        .await?
                        .into_inner())
                })
                .await;
            let leads = answer
                .map_err(|status| Failure::from_status("hand over leadership", &status, &[]))?
                .leader;
            if leads == mesh.controllers.members[leader].name {
                return Err(Failure::failed(format!(
                    "{leads} still leads after it handed over leadership"
                )));
            }
            Ok(None)
        }
    }
}

/// Starts the version's other instance, and has the one that runs drain and end.
async fn replace_endpoint(mesh: &mut Mesh) -> Outcome<(Workload, Workload, Tally)> {
    let (old, new) = if mesh.apps.contains_key(API_V1.name) {
        (API_V1, API_V1_SPARE)
    } else {
        (API_V1_SPARE, API_V1)
    };
    mesh.run_workload(&new).await?;
    mesh.await_ready(&new).await?;
    let mut probes = Tally::default();
    let (takes_part, ()) = until(ACCEPT_LIMIT, async || {
        // It takes traffic only once its callers have heard of it. These calls may not fail either.
        let target = mesh.target(&WEB, demo::API, Family::V4);
        let tally = mesh
            .count(Caller::Workload(WEB), Load::of(Protocol::Http1, target, 20))
            .await?;
        probes = total(&[&probes, &tally]);
        Ok((tally.servers.contains_key(new.name), ()))
    })
    .await?;
    if !takes_part {
        let waited = ACCEPT_LIMIT.as_secs();
        return Err(Failure::failed(format!(
            "{} is ready and gets no traffic after {waited} s",
            new.name
        )));
    }
    mesh.end_workload(&old).await?;
    Ok((old, new, probes))
}

/// Kills the leader, waits until writes are accepted again, starts it again.
async fn kill_leader(mesh: &mut Mesh, writers: &Writers) -> Outcome<Duration> {
    let leader = mesh.controllers.leader().await?;
    let since = Instant::now();
    mesh.controllers.kill(leader).await?;
    let time = accepted(writers, since, Instant::now()).await?;
    mesh.controllers.start(leader)?;
    mesh.controllers.ready().await?;
    time.ok_or_else(|| {
        Failure::failed(format!(
            "no write was accepted within {} s of the leader's death",
            ACCEPT_LIMIT.as_secs()
        ))
    })
}

fn failover_time(mut times: Vec<Duration>, load: &Tally, by_kind: &Value) -> Check {
    let in_order = times
        .iter()
        .map(|time| time.as_millis() as u64)
        .collect::<Vec<_>>();
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or(Duration::MAX);
    let detail = json!({
        "kills": in_order.len(),
        "medianMillis": median.as_millis() as u64,
        "limitMillis": MEDIAN_LIMIT.as_millis() as u64,
        "millis": in_order,
        "steadyLoad": by_kind,
    });
    Check::calls("failover-time", load, median <= MEDIAN_LIMIT, detail)
}

fn no_write_lost(written: &Written) -> Check {
    let lost = written.lost.len() as u64;
    let detail = json!({"acknowledged": written.acknowledged, "attempts": written.attempts, "lost": written.lost.iter().take(10).collect::<Vec<_>>()});
    let passed = lost == 0 && written.acknowledged > 0;
    Check {
        name: "no-write-lost".into(),
        passed,
        sent: written.acknowledged,
        failed: lost,
        refused: 0,
        detail,
    }
}

/// A tally in short.
pub(super) fn counts(tally: &Tally) -> Value {
    json!({"sent": tally.sent, "failed": tally.failed + tally.refused, "p50Micros": tally.latency.p50, "p99Micros": tally.latency.p99})
}

/// The sum of several.
pub(super) fn total(tallies: &[&Tally]) -> Tally {
    let mut sum = Tally::default();
    for tally in tallies {
        sum.sent += tally.sent;
        sum.ok += tally.ok;
        sum.failed += tally.failed;
        sum.refused += tally.refused;
        sum.connections += tally.connections;
        for (server, count) in &tally.servers {
            *sum.servers.entry(server.clone()).or_default() += count;
        }
        sum.errors.extend(tally.errors.iter().cloned());
    }
    sum
}
