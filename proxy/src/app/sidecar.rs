//! Starts the sidecar's parts, leaves first, and waits for the end.

use super::common::Common;
use super::data_path::{self, DataPath};
use super::shutdown::Signals;
use crate::config::Config;
use crate::drain;
use crate::identity::Identity;
use crate::snapshot::Directory;
use crate::supervise::{Pending, Readiness};
use crate::telemetry::LogLevel;
use crate::xds::Xds;
use anyhow::Context;
use std::sync::Arc;
use xds_api::maille::v1::Mesh;

/// From the first part to the last, and back.
pub(super) async fn serve(config: Arc<Config>, log: LogLevel) -> anyhow::Result<()> {
    let signals = Signals::new().context("cannot listen for signals")?;
    let readiness = Readiness::default();
    let waits = Waits::new(&readiness);
    let common = Common::start(config, log, readiness)?;

    let (drain, work) = drain::channel();
    let data_path = DataPath {
        config: Arc::clone(&common.config),
        directory: Arc::new(common.xds.clone()),
        mesh: data_path::mesh(&common.identity, &common.tasks),
        metrics: common.metrics.clone(),
        tasks: common.tasks.clone(),
    };
    data_path.start(work, waits.listeners)?;
    common.report_loads();
    common.start_dns().await?;
    common.tasks.spawn(ready_when_told(
        common.identity.clone(),
        common.xds.clone(),
        waits.certificate,
        waits.configuration,
    ));
    common.register(Mesh::Native, drain).run(signals).await
}

/// What the process waits for before it is ready.
struct Waits {
    certificate: Pending,
    configuration: Pending,
    listeners: Pending,
}

impl Waits {
    fn new(readiness: &Readiness) -> Self {
        Self {
            certificate: readiness.wait_for("a certificate"),
            configuration: readiness.wait_for("the control plane's configuration"),
            listeners: readiness.wait_for("listeners"),
        }
    }
}

/// Drops what readiness waits for as it comes. What has come once stays: a control plane that goes away stops nothing.
async fn ready_when_told(
    mut identity: Identity,
    xds: Xds,
    certificate: Pending,
    configuration: Pending,
) {
    identity.first().await;
    drop(certificate);
    let mut snapshots = xds.snapshots().clone();
    let told = snapshots
        .wait_for(|snapshot| snapshot.inbound.is_some())
        .await;
    // An error means that the client is gone, and with it the process.
    if told.is_ok() {
        drop(configuration);
    }
}
