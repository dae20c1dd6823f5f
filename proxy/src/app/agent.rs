//! Starts the agent's parts, leaves first, and waits for the end.

use super::common::Common;
use super::shutdown::Signals;
use crate::agent::{self, Files, Relay, Socket};
use crate::config::{AgentKind, Config};
use crate::drain;
use crate::identity::Identity;
use crate::supervise::{Pending, Readiness};
use crate::telemetry::LogLevel;
use anyhow::Context;
use xds_api::maille::v1::Mesh;

/// From the first part to the last, and back. The program beside it keeps its own connections; nothing is drained here but
/// the registration.
pub(super) async fn serve(config: Config, log: LogLevel) -> anyhow::Result<()> {
    let signals = Signals::new().context("cannot listen for signals")?;
    let readiness = Readiness::default();
    let certificate = readiness.wait_for("a certificate");
    let served = readiness.wait_for("the socket");
    let written = readiness.wait_for("the certificate's files");
    let common = Common::start_one(config, log, readiness)?;

    let settings = &common.config.agent;
    let member = common.members.first().context("it has one workload")?;
    let identity = member.identity.clone();
    let relay = Relay::new(
        member.controllers.clone(),
        identity.clone(),
        &common.metrics,
        &common.tasks,
    );
    let socket = match settings.abstract_socket() {
        Some(name) => Socket::bind_abstract(name),
        None => Socket::bind(&settings.socket),
    };
    let parts = agent::Settings {
        socket: socket?,
        identity: identity.clone(),
        relay,
        files: settings.files.clone().map(Files::new),
    };
    agent::start(parts, served, written, &common.tasks);
    common.start_dns().await?;
    let ready = ready_when_certified(identity, certificate);
    common.tasks.spawn(ready);
    let mesh = match settings.kind {
        AgentKind::Envoy => Mesh::Envoy,
        AgentKind::Grpc => Mesh::Grpc,
    };
    let (drain, work) = drain::channel();
    drop(work);
    common.register(mesh, drain).run(signals).await
}

/// Drops what readiness waits for as it comes.
async fn ready_when_certified(mut identity: Identity, certificate: Pending) {
    identity.first().await;
    drop(certificate);
}
