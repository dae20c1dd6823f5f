//! Starts the sidecar's parts, leaves first, and waits for the end.

use super::common::Common;
use super::data_path::DataPath;
use super::member::Member;
use super::shutdown::Signals;
use crate::config::Hosted;
use crate::drain;
use crate::snapshot::Directory;
use crate::supervise::{Pending, Readiness};
use crate::telemetry::LogLevel;
use anyhow::Context;
use xds_api::maille::v1::Mesh;

/// From the first part to the last, and back.
pub(super) async fn serve(hosted: Hosted, log: LogLevel) -> anyhow::Result<()> {
    let signals = Signals::new().context("cannot listen for signals")?;
    let readiness = Readiness::default();
    let configuration = hosted.resolved();
    let waits = Waits::of(&hosted, &readiness);
    let (common, several) = match hosted {
        Hosted::One(config) => (Common::start_one(*config, log, readiness)?, false),
        Hosted::Several(_, configs) => (
            Common::start_several(configs, configuration, log, readiness)?,
            true,
        ),
    };

    let (drain, work) = drain::channel();
    let mut listeners = Vec::new();
    for (member, waits) in common.members.iter().zip(waits) {
        listeners.push(waits.listeners);
        let told = ready_when_told(member.clone(), waits.certificate, waits.configuration);
        member.tasks.spawn(told);
        member.report_loads();
    }
    DataPath::new(&common, several)?.start(work, listeners)?;
    common.start_dns().await?;
    common.register(Mesh::Native, drain).run(signals).await
}

/// What the process waits for, for one workload, before it is ready.
struct Waits {
    certificate: Pending,
    configuration: Pending,
    listeners: Pending,
}

impl Waits {
    /// For each workload; each by its name where there are several.
    fn of(hosted: &Hosted, readiness: &Readiness) -> Vec<Self> {
        let name = |config: &crate::config::Config| match hosted {
            Hosted::One(_) => String::new(),
            Hosted::Several(..) => format!(" of {}", config.workload.node()),
        };
        let waits = |of: String| Self {
            certificate: readiness.wait_for(format!("a certificate{of}")),
            configuration: readiness.wait_for(format!("the control plane's configuration{of}")),
            listeners: readiness.wait_for(format!("listeners{of}")),
        };
        hosted.workloads().iter().map(name).map(waits).collect()
    }
}

/// Drops what readiness waits for as it comes. What has come once stays: a control plane that goes away stops nothing.
async fn ready_when_told(member: Member, certificate: Pending, configuration: Pending) {
    let (mut identity, mut trouble) = (member.identity.clone(), member.identity.trouble());
    loop {
        tokio::select! {
            _ = identity.first() => break,
            Ok(()) = trouble.changed() => {
                certificate.explain(trouble.borrow_and_update().clone());
            }
        }
    }
    drop(certificate);
    let mut snapshots = member.xds.snapshots().clone();
    let told = snapshots
        .wait_for(|snapshot| snapshot.inbound.is_some())
        .await;
    // An error means that the client is gone, and with it the process.
    if told.is_ok() {
        drop(configuration);
    }
}
