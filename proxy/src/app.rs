//! The process: parts are started in order and stopped in reverse.

mod agent;
mod common;
mod data_path;
mod join;
mod shutdown;
mod sidecar;

pub use join::JoinError;

use crate::config::Config;
use crate::telemetry;
use anyhow::Context;
use std::sync::Arc;

/// What the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It takes the workload's connections.
    Sidecar,
    /// It stands beside a program that does.
    Agent,
}

/// Runs the process until it is told to stop. An error is a reason not to go on.
pub fn run(config: Config, role: Role) -> anyhow::Result<()> {
    let log = telemetry::start(&config.log, config.log_format).context("the log")?;
    // One thread serves everything: a sidecar mostly gets one core. Further workers have runtimes of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let config = Arc::new(config);
    let outcome = match role {
        Role::Sidecar => runtime.block_on(sidecar::serve(config, log)),
        Role::Agent => runtime.block_on(agent::serve(config, log)),
    };
    // What is left are connections that the drain has given up and lookups in the thread pool.
    runtime.shutdown_background();
    outcome
}
