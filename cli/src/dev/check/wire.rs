//! What goes between the hosts: handshakes that select TLS 1.3, and none of the bytes that applications say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rand::Rng;
use rustix::process::geteuid;
use serde_json::json;

use crate::args::dev::{Family, Protocol};
use crate::dev::demo::{self, GUEST, Kind, Target, Workload};
use crate::dev::layout::Use;
use crate::dev::mesh::{Caller, Load, Mesh};
use crate::dev::namespaces::HUB;
use crate::dev::process::App;
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
    let recording = Recording::start(mesh, "wire").await?;
    let (sent, failed, errors) = talk(mesh, &marker).await?;
    let control = mesh.ground.layout.direct();
    let plain = Load {
        body: marker.clone(),
        ..Load::of(Protocol::Banner, control.clone(), REQUESTS)
    };
    mesh.count(Caller::Workload(GUEST), plain).await?;
    let flows = recording.stop().await?;
    let workloads = mesh.sidecars.values().map(|sidecar| sidecar.workload);
    let found = Findings::of(
        &flows,
        mesh,
        &workloads.collect::<Vec<_>>(),
        marker.as_bytes(),
    );
    let control = flows_with(&flows, &control, marker.as_bytes());
    let passed = failed == 0
        && found.hellos >= 3
        && found.hellos == found.tls13
        && found.markers == 0
        && control > 0;
    let detail = json!({
        "flows": flows.len(),
        "serverHellos": found.hellos,
        "selectingTls13": found.tls13,
        "flowsWithMarker": found.markers,
        "marker": "in every request's and answer's body",
        "controlFlowsWithMarker": control,
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

/// A capture of all packets between the hosts, while it runs.
pub(super) struct Recording {
    capture: App,
    file: PathBuf,
}

impl Recording {
    /// Begins.
    pub(super) async fn start(mesh: &Mesh, name: &str) -> Outcome<Recording> {
        let file = mesh.ground.run.path().join(format!("{name}.pcap"));
        let arguments = [
            "capture".into(),
            "--file".into(),
            file.display().to_string(),
        ];
        let launcher = &mesh.ground.launcher;
        let mut capture = launcher.app(HUB, &format!("capture-{name}"), &arguments)?;
        capture.ready().await?;
        Ok(Recording { capture, file })
    }

    /// Ends, and tells what went by.
    pub(super) async fn stop(self) -> Outcome<Flows> {
        self.capture.stop().await?;
        let pcap = std::fs::read(&self.file);
        let pcap = pcap.map_err(|error| {
            Failure::failed(format!("read {}", self.file.display())).caused_by(error)
        })?;
        Ok(packets::flows(&pcap))
    }
}

/// What went by, by direction.
pub(super) type Flows = BTreeMap<Direction, Flow>;

/// Random, so that no earlier run's bytes are taken for it, and of letters, so that no protocol writes it differently.
pub(super) fn marker() -> String {
    let mut bytes = [0u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    format!("marker-{}", hex::encode(bytes))
}

/// Calls by every protocol through a sidecar that has just been restarted, so that every connection begins within the capture.
async fn talk(mesh: &mut Mesh, marker: &str) -> Outcome<(u64, u64, Vec<String>)> {
    restart(mesh, &GUEST, demo::API).await?;
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

/// Kills a client's sidecar, starts it again, and waits until it serves.
pub(super) async fn restart(mesh: &mut Mesh, client: &Workload, target: Target) -> Outcome {
    let launcher = mesh.ground.launcher.clone();
    if let Some(sidecar) = mesh.sidecars.get_mut(client.name) {
        sidecar.kill().await?;
        sidecar.start(&launcher)?;
    }
    mesh.await_ready(client).await?;
    let target = mesh.target(client, target, Family::V4);
    until(RESTART_LIMIT, async || {
        let load = Load::of(Protocol::Http1, target.clone(), 1);
        let tally = mesh.count(Caller::Workload(*client), load).await?;
        Ok((tally.failed == 0, ()))
    })
    .await
    .map(drop)
}

/// What was found in the flows to and from some servers.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Handshakes at their mesh ports, and those of them that selected TLS 1.3.
    pub(super) hellos: u64,
    pub(super) tls13: u64,
    /// Flows between any hosts that hold the marker.
    pub(super) markers: u64,
    /// Flows to and from the servers' own ports.
    pub(super) direct: u64,
}

impl Findings {
    pub(super) fn of(flows: &Flows, mesh: &Mesh, servers: &[Workload], marker: &[u8]) -> Findings {
        let layout = &mesh.ground.layout;
        let at = |address: &SocketAddr, port: fn(&Workload) -> Vec<Use>| {
            servers.iter().any(|server| {
                let mut ports = port(server).into_iter();
                layout.addresses(server).contains(&address.ip())
                    && ports.any(|usage| layout.sidecar(server, usage).port() == address.port())
            })
        };
        let mesh_port = |address: &SocketAddr| at(address, secured);
        let own_port = |address: &SocketAddr| {
            at(address, |server| match server.kind {
                Kind::Grpc => Vec::new(),
                Kind::Native | Kind::Envoy => own(server),
            })
        };
        let workloads = mesh.sidecars.values().map(|sidecar| sidecar.workload);
        let mesh_ports = workloads
            .flat_map(|workload| {
                let ports = secured(&workload).into_iter();
                ports.map(move |usage| layout.sidecar(&workload, usage).port())
            })
            .collect::<BTreeSet<_>>();
        let direct = layout.direct();
        let mut found = Findings::default();
        for (direction, flow) in flows {
            if direct == direction.from.to_string() || direct == direction.to.to_string() {
                continue;
            }
            if mesh_port(&direction.from) {
                let version = selected_version(&flow.bytes());
                found.hellos += u64::from(version.is_some());
                found.tls13 += u64::from(version == Some(TLS13));
            }
            // On loopback the capture also holds what applications say to their own sidecars, which never leaves a host.
            let between_hosts = layout.namespaces()
                || [direction.from.port(), direction.to.port()]
                    .iter()
                    .any(|port| mesh_ports.contains(port));
            found.markers += u64::from(between_hosts && flow.holds(marker));
            found.direct += u64::from(layout.namespaces() && own_port(&direction.from));
        }
        found
    }
}

/// Where a workload takes mutual TLS: at its sidecar's mesh port, or by itself.
fn secured(workload: &Workload) -> Vec<Use> {
    match workload.kind {
        Kind::Native | Kind::Envoy => vec![Use::Mesh],
        Kind::Grpc => own(workload),
    }
}

fn own(workload: &Workload) -> Vec<Use> {
    let ports = workload.ports.iter();
    ports.map(|port| Use::Application(port.number)).collect()
}

/// How many flows to or from an address hold a marker.
fn flows_with(flows: &Flows, address: &str, marker: &[u8]) -> u64 {
    let touching = flows.iter().filter(|(direction, flow)| {
        let ends = [direction.from, direction.to].map(|end| end.to_string());
        ends.iter().any(|end| end == address) && flow.holds(marker)
    });
    touching.count() as u64
}
