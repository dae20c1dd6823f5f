//! No controller at all, for half a minute, under load: existing, idle and new connections go on, and a sidecar that is killed serves again from what it
//! has on disk, and so does an Envoy's agent. Afterwards all reconnect, are sent nothing that they have, and need no new certificate.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use xds_api::generated::maille::v1 as api;
use xds_api::node::GRPC_AGENTS;

use crate::args::dev::{Dev, Family, Protocol};
use crate::dev::demo::{self, GUEST, IDLE, Kind, WEB};
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::failure::{Failure, Outcome};

use super::failover::{counts, total};
use super::steady::Steady;
use super::{Check, until};

/// The checks' names.
pub(super) const NAMES: [&str; 2] = ["all-controllers-dead", "reconnect-without-resending"];

/// Calls to the idle destination, and new connections.
const CALLS: u64 = 60;
/// Requests a second through the sidecar that is killed.
const GUEST_RATE: u32 = 50;
/// Sidecars back off before they try again; then all must be back.
const RECONNECT_LIMIT: Duration = Duration::from_secs(60);

/// What was so before and must be so afterwards.
struct Before {
    issued: Issued,
    streams: BTreeMap<String, i64>,
}

pub(super) async fn run(args: &Dev, mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    mesh.controllers.ready().await?;
    // With `--only` nobody has called it yet.
    let idle = mesh.target(&WEB, IDLE, Family::V4);
    mesh.count(Caller::Workload(WEB), Load::of(Protocol::Http1, idle, 4))
        .await?;
    let guest = mesh.target(&GUEST, demo::API, Family::V4);
    mesh.count(Caller::Workload(GUEST), Load::of(Protocol::Http1, guest, 4))
        .await?;
    settled(mesh).await?;
    let before = Before {
        issued: issued(mesh).await?,
        streams: streams(mesh).await?,
    };
    let outage = outage(args, mesh).await?;
    let after = reconnected(mesh, &before).await?;
    Ok(vec![outage, after])
}

/// Waits until every sidecar has acknowledged everything: what was on its way when the controllers died would rightly be sent again.
async fn settled(mesh: &Mesh) -> Outcome {
    let (clean, seen) = until(RECONNECT_LIMIT, async || {
        let proxies = proxies(mesh).await?;
        Ok((
            proxies.iter().all(|proxy| proxy.behind_seconds == 0),
            proxies,
        ))
    })
    .await?;
    if clean {
        Ok(())
    } else {
        Err(Failure::failed(format!("sidecars stay behind: {seen:?}")))
    }
}

async fn outage(args: &Dev, mesh: &mut Mesh) -> Outcome<Check> {
    let api = mesh.target(&WEB, demo::API, Family::V4);
    let mut steady = Steady::start(args, mesh)?;
    // A program that starts asks a controller first.
    steady.counting().await?;
    let guest_target = mesh.target(&GUEST, demo::API, Family::V4);
    let guest_load = Load::steady(Protocol::Http1, guest_target, GUEST_RATE);
    let guest = mesh.client(Caller::Workload(GUEST), &guest_load)?;
    for index in 0..mesh.controllers.members.len() {
        mesh.controllers.kill(index).await?;
    }
    let end = Instant::now() + Duration::from_secs(args.outage);
    let idle_target = mesh.target(&WEB, IDLE, Family::V4);
    let idle = mesh
        .count(
            Caller::Workload(WEB),
            Load::of(Protocol::Http1, idle_target, CALLS),
        )
        .await?;
    let connections = mesh
        .count(
            Caller::Workload(WEB),
            Load {
                reconnect: true,
                ..Load::of(Protocol::Http1, api, CALLS)
            },
        )
        .await?;
    let guest = guest.stop().await?;
    let agents = restart_agents(mesh).await?;
    let (apart, ready_after) = restart_sidecar(mesh, &guest_load).await?;
    let restarted = mesh.client(Caller::Workload(GUEST), &guest_load)?;
    sleep_until(end).await;
    let restarted = restarted.stop().await?;
    let (steady, by_kind) = steady.stop().await?;
    let detail = json!({
        "outageSeconds": args.outage,
        "steadyLoad": by_kind,
        "idleDestination": counts(&idle),
        "newConnections": counts(&connections),
        "throughTheSidecarBefore": counts(&guest),
        "throughTheSidecarAfter": counts(&restarted),
        "agentsReadyAfterMillis": agents,
        "sidecarReadyAfterMillis": ready_after.as_millis() as u64,
        "apart": {"sent": apart.sent, "failed": apart.failed, "why": "through the killed sidecar until it was ready again"},
    });
    Ok(Check::calls(
        "all-controllers-dead",
        &total(&[&steady, &idle, &connections, &guest, &restarted]),
        true,
        detail,
    ))
}

/// Kills the agents beside the fronts' Envoys, which go on with what they have, and starts them again: they have their certificates on disk. An Envoy
/// itself keeps nothing of its configuration: it cannot be restarted without a controller.
async fn restart_agents(mesh: &mut Mesh) -> Outcome<Vec<u64>> {
    let mut times = Vec::new();
    for set in mesh.sets.iter().filter(|set| set.kind == Kind::Envoy) {
        let launcher = mesh.ground.launcher.clone();
        let begun = Instant::now();
        if let Some(sidecar) = mesh.sidecars.get_mut(set.web.name) {
            sidecar.kill_own().await?;
            sidecar.start(&launcher)?;
        }
        mesh.await_ready(&set.web).await?;
        times.push(begun.elapsed().as_millis() as u64);
    }
    Ok(times)
}

/// Kills the guest's sidecar under load and starts it again. What fails until it is ready is counted apart.
async fn restart_sidecar(
    mesh: &mut Mesh,
    load: &Load,
) -> Outcome<(crate::dev::app::tally::Tally, Duration)> {
    let during = mesh.client(Caller::Workload(GUEST), load)?;
    let launcher = mesh.ground.launcher.clone();
    let begun = Instant::now();
    if let Some(sidecar) = mesh.sidecars.get_mut(GUEST.name) {
        sidecar.kill().await?;
        sidecar.start(&launcher)?;
    }
    mesh.await_ready(&GUEST).await?;
    let ready_after = begun.elapsed();
    Ok((during.stop().await?, ready_after))
}

async fn reconnected(mesh: &mut Mesh, before: &Before) -> Outcome<Check> {
    let revived = jiff::Timestamp::now().as_second();
    for index in 0..mesh.controllers.members.len() {
        mesh.controllers.start(index)?;
    }
    mesh.controllers.ready().await?;
    let begun = Instant::now();
    let (all_back, proxies) = until(RECONNECT_LIMIT, async || {
        let proxies = proxies(mesh).await?;
        let back = |node: &String| {
            proxies.iter().any(|proxy| {
                proxy.node == *node && proxy.connected_at >= revived && proxy.behind_seconds == 0
            })
        };
        Ok((before.streams.keys().all(back), proxies.clone()))
    })
    .await?;
    // gRPC speaks the state of the world, in which a new stream begins with everything.
    let is_whole = |proxy: &&api::Proxy| proxy.kind.starts_with(GRPC_AGENTS);
    let bytes = |proxy: &api::Proxy| (proxy.node.clone(), proxy.resource_bytes);
    let again = proxies.iter().filter(is_whole);
    let again = again.map(bytes).collect::<BTreeMap<_, _>>();
    let resent = proxies.iter().filter(|proxy| !is_whole(proxy));
    let resent = resent
        .filter(|proxy| proxy.resource_bytes > 0)
        .map(bytes)
        .collect::<BTreeMap<_, _>>();
    let now = issued(mesh).await?;
    let certificates = now.workloads.saturating_sub(before.issued.workloads);
    let detail = json!({
        "sidecars": before.streams.len(),
        "allBackAfterMillis": begun.elapsed().as_millis() as u64,
        "resourceBytesResent": resent,
        "resourceBytesToGrpc": again,
        "newLeafCertificates": certificates,
        "newControllerCertificates": now.controllers.saturating_sub(before.issued.controllers),
        "streams": proxies.iter().map(|proxy| (proxy.node.clone(), Value::from(proxy.controller.clone()))).collect::<serde_json::Map<_, _>>(),
    });
    let passed = all_back && resent.is_empty() && certificates == 0;
    let sent = before.streams.len() as u64;
    let failed = before
        .streams
        .keys()
        .filter(|node| {
            !proxies
                .iter()
                .any(|proxy| proxy.node == **node && proxy.connected_at >= revived)
        })
        .count() as u64;
    Ok(Check {
        name: "reconnect-without-resending".into(),
        passed,
        sent,
        failed,
        refused: 0,
        detail,
    })
}

async fn proxies(mesh: &Mesh) -> Outcome<Vec<api::Proxy>> {
    let cluster = mesh.controllers.cluster();
    let answer = cluster
        .call(async |mut client| {
            Ok(client
                .proxies(api::ProxiesRequest {})
                .await?
                .into_inner()
                .proxies)
        })
        .await;
    answer.map_err(|status| Failure::from_status("list the proxies", &status, &[]))
}

/// The sidecars that have a stream now.
async fn streams(mesh: &Mesh) -> Outcome<BTreeMap<String, i64>> {
    let connected = proxies(mesh)
        .await?
        .into_iter()
        .filter(|proxy| proxy.connected_at > 0);
    Ok(connected
        .map(|proxy| (proxy.node, proxy.connected_at))
        .collect())
}

/// Certificates on the record, by whose they are.
#[derive(Clone, Copy, Debug, Default)]
struct Issued {
    workloads: u64,
    /// A controller makes itself a new server certificate at each start: its key is in memory only.
    controllers: u64,
}

async fn issued(mesh: &Mesh) -> Outcome<Issued> {
    let cluster = mesh.controllers.cluster();
    let answer = cluster.call(async |mut client| {
        let mut records = client
            .issuance_log(api::IssuanceLogRequest::default())
            .await?
            .into_inner();
        let mut issued = Issued::default();
        while let Some(record) = records.message().await? {
            match record.spiffe_id.contains("/ns/maille-system/") {
                true => issued.controllers += 1,
                false => issued.workloads += 1,
            }
        }
        Ok(issued)
    });
    answer
        .await
        .map_err(|status| Failure::from_status("read the issuance log", &status, &[]))
}
