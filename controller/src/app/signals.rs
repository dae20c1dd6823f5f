//! Waiting for what ends the process: a signal, or a vital task.

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::Failure;
use crate::supervise::Supervisor;

/// `Ok` when the process was told to stop.
pub(super) async fn wait(supervisor: &mut Supervisor) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
    tokio::select! {
        _ = terminate.recv() => info!("told to stop (SIGTERM)"),
        _ = interrupt.recv() => info!("told to stop (SIGINT)"),
        ended = supervisor.vital_task_ended() => return Err(Failure::Vital(ended)),
    }
    Ok(())
}

/// A second signal while stopping means now.
pub(super) async fn again() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
