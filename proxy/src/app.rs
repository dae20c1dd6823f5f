//! The process: parts are started in order and stopped in reverse.

mod agent;
mod common;
mod data_path;
mod join;
mod member;
mod shutdown;
mod sidecar;

pub use join::JoinError;

use crate::config::{Config, Hosted};
use crate::telemetry::{self, LogLevel};
use anyhow::Context;

/// Takes the connections of one workload or of several, until it is told to stop. An error is a reason not to go on.
pub fn run_sidecar(hosted: Hosted) -> anyhow::Result<()> {
    let first = hosted.workloads().first();
    let first = first.context("no workload is named")?.clone();
    run(&first, async |log| sidecar::serve(hosted, log).await)
}

/// Stands beside a program that takes its connections itself, until it is told to stop. An error is a reason not to go on.
pub fn run_agent(config: Config) -> anyhow::Result<()> {
    run(&config.clone(), async |log| agent::serve(config, log).await)
}

fn run(
    config: &Config,
    serve: impl AsyncFnOnce(LogLevel) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let log = telemetry::start(&config.log, config.log_format).context("the log")?;
    // One thread serves everything: a sidecar mostly gets one core. Further workers have runtimes of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(serve(log));
    // What is left are connections that the drain has given up and lookups in the thread pool.
    runtime.shutdown_background();
    outcome
}
