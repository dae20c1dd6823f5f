//! What goes between the hosts: handshakes that select TLS 1.3, and none of the bytes that applications say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rustix::process::geteuid;
use serde_json::json;

use crate::args::dev::{Family, Protocol};
use crate::dev::demo::{self, GUEST, WORKLOADS};
use crate::dev::layout::Use;
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::dev::namespaces::HUB;
use crate::failure::{Failure, Outcome};

use super::packets::{self, Direction, Flow};
use super::server_hello::{TLS13, selected_version};
use super::{Check, until};

const NAME: &str = "tls13-on-the-wire";
/// Requests of each protocol.
const REQUESTS: u64 = 40;
/// Until a restarted sidecar serves again.
const RESTART_LIMIT: Duration = Duration::from_secs(20);

pub(super) async fn run(mesh: &mut Mesh) -> Outcome<Vec<Check>> {
    if !geteuid().is_root() {
        return Ok(vec![Check::skipped(NAME, "capturing packets needs root")]);
    }
    let marker = marker();
    let file = mesh.ground.run.path().join("wire.pcap");
    let mut capture = mesh.ground.launcher.app(
        HUB,
        "capture",
        &[
            "capture".to_string(),
            "--file".into(),
            file.display().to_string(),
        ],
    )?;
    capture.ready().await?;
    let (sent, failed, errors) = talk(mesh, &marker).await?;
    let control = mesh.ground.layout.direct();
    let plain = Load {
        body: marker.clone(),
        ..Load::of(Protocol::Banner, control.clone(), REQUESTS)
    };
    mesh.count(Caller::Workload(GUEST), plain).await?;
    capture.stop().await?;
    let pcap = std::fs::read(&file)
        .map_err(|error| Failure::failed(format!("read {}", file.display())).caused_by(error))?;
    let flows = packets::flows(&pcap);
    let found = Findings::of(&flows, mesh, &control, marker.as_bytes());
    let passed = failed == 0
        && found.hellos >= 3
        && found.hellos == found.tls13
        && found.markers == 0
        && found.control > 0;
    let detail = json!({
        "capturedBytes": pcap.len(),
        "flows": flows.len(),
        "serverHellos": found.hellos,
        "selectingTls13": found.tls13,
        "flowsWithMarker": found.markers,
        "marker": "in every request's and answer's body",
        "controlFlowsWithMarker": found.control,
        "control": "the same bytes to a port that the mesh does not know",
        "errors": errors,
    });
    Ok(vec![Check {
        name: NAME.into(),
        passed,
        sent,
        failed,
        refused: 0,
        detail,
    }])
}

/// Random, so that no earlier run's bytes are taken for it, and of letters, so that no protocol writes it differently.
fn marker() -> String {
    let mut bytes = [0u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    format!("marker-{}", hex::encode(bytes))
}

/// Calls by every protocol through a sidecar that has just been restarted, so that every connection begins within the capture.
async fn talk(mesh: &mut Mesh, marker: &str) -> Outcome<(u64, u64, Vec<String>)> {
    restart(mesh).await?;
    let calls = [
        (Protocol::Http1, demo::API),
        (Protocol::Http2, demo::API_H2),
        (Protocol::Grpc, demo::GREETER_GRPC),
        (Protocol::Websocket, demo::API),
        (Protocol::Banner, demo::BANNER_TCP),
    ];
    let (mut sent, mut failed, mut errors) = (0, 0, Vec::new());
    for (protocol, target) in calls {
        let target = mesh.target(&GUEST, target, Family::V4);
        let tally = mesh
            .count(
                Caller::Workload(GUEST),
                Load {
                    body: marker.to_string(),
                    ..Load::of(protocol, target, REQUESTS)
                },
            )
            .await?;
        sent += tally.sent;
        failed += tally.failed + tally.refused;
        errors.extend(tally.errors);
    }
    Ok((sent, failed, errors))
}

async fn restart(mesh: &mut Mesh) -> Outcome {
    let launcher = mesh.ground.launcher.clone();
    if let Some(sidecar) = mesh.sidecars.get_mut(GUEST.name) {
        sidecar.kill().await?;
        sidecar.start(&launcher)?;
    }
    mesh.await_ready(&GUEST).await?;
    let target = mesh.target(&GUEST, demo::API, Family::V4);
    until(RESTART_LIMIT, async || {
        let tally = mesh
            .count(
                Caller::Workload(GUEST),
                Load::of(Protocol::Http1, target.clone(), 1),
            )
            .await?;
        Ok((tally.failed == 0, ()))
    })
    .await
    .map(drop)
}

#[derive(Debug, Default)]
struct Findings {
    hellos: u64,
    tls13: u64,
    markers: u64,
    control: u64,
}

impl Findings {
    fn of(
        flows: &BTreeMap<Direction, Flow>,
        mesh: &Mesh,
        control: &str,
        marker: &[u8],
    ) -> Findings {
        let mesh_ports = WORKLOADS
            .iter()
            .map(|workload| mesh.ground.layout.sidecar(workload, Use::Mesh).port())
            .collect::<Vec<_>>();
        let control = control
            .parse::<SocketAddr>()
            .map(|address| address.port())
            .unwrap_or_default();
        let mut found = Findings::default();
        for (direction, flow) in flows {
            let touches = |port: u16| direction.from.port() == port || direction.to.port() == port;
            if touches(control) {
                found.control += u64::from(flow.holds(marker));
                continue;
            }
            if mesh_ports.contains(&direction.from.port()) {
                let version = selected_version(&flow.bytes());
                found.hellos += u64::from(version.is_some());
                found.tls13 += u64::from(version == Some(TLS13));
            }
            // On loopback the capture also holds what applications say to their own sidecars, which never leaves a host.
            let between_hosts =
                mesh.ground.layout.namespaces() || mesh_ports.iter().any(|port| touches(*port));
            found.markers += u64::from(between_hosts && flow.holds(marker));
        }
        found
    }
}
