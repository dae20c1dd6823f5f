//! The process: parts are started in order and stopped in reverse.

mod data_path;
mod join;
mod shutdown;
mod start;

pub use join::JoinError;

use crate::config::Config;
use crate::telemetry;
use anyhow::Context;
use std::sync::Arc;

/// Runs the proxy until it is told to stop. An error is a reason not to go on.
pub fn run(config: Config) -> anyhow::Result<()> {
    let log = telemetry::start(&config.log, config.log_format).context("the log")?;
    // One thread serves everything: a sidecar mostly gets one core. Further workers have runtimes of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(start::serve(Arc::new(config), log));
    // What is left are connections that the drain has given up and lookups in the thread pool.
    runtime.shutdown_background();
    outcome
}
