//! The end: others are told first, then what is under way finishes, then the parts stop.

use crate::config::Config;
use crate::drain::Drain;
use crate::registration::Registration;
use crate::supervise::{Endings, Readiness, Tasks};
use futures_util::future::join_all;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::{info, warn};

/// For the control plane to agree that the workload is gone. Past it its lease ends by itself.
const WITHDRAW_LIMIT: Duration = Duration::from_secs(5);

/// SIGTERM and SIGINT, which mean the same here.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// What has to be stopped.
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) drain: Drain,
    pub(super) drain_asked: Arc<Notify>,
    /// Of each workload.
    pub(super) registrations: Vec<Registration>,
    pub(super) readiness: Readiness,
    pub(super) tasks: Tasks,
    pub(super) endings: Endings,
}

impl Parts {
    /// Waits until somebody wants the end, and brings it about.
    pub(super) async fn run(mut self, mut signals: Signals) -> anyhow::Result<()> {
        tokio::select! {
            signal = signals.next() => info!(signal, "draining; a second signal ends at once"),
            () = self.drain_asked.notified() => info!("asked to drain; a signal ends at once"),
            ended = self.endings.next() => {
                self.tasks.stop().await;
                return Err(ended.into());
            }
        }
        // From now on probes say so.
        let _draining = self.readiness.wait_for("the end of the drain");
        tokio::select! {
            () = self.drain() => {}
            signal = signals.next() => warn!(signal, "ending at once"),
        }
        self.tasks.stop().await;
        info!("stopped");
        Ok(())
    }

    async fn drain(&self) {
        // Who was never registered is called by nobody.
        let registered = |one: &&Registration| *one.registered().borrow();
        let told = self.registrations.iter().filter(registered);
        let told: Vec<_> = told.map(|one| one.withdraw(WITHDRAW_LIMIT)).collect();
        if !told.is_empty() {
            let agreed = join_all(told).await;
            if agreed.contains(&false) {
                warn!(
                    "the control plane does not know of the drain; peers will find out by failing"
                );
            }
            // Peers hear of it within this time and send nothing new.
            tokio::time::sleep(self.config.drain_delay).await;
        }
        let left = self.drain.drain(self.config.drain_timeout).await;
        if left > 0 {
            warn!(left, limit = ?self.config.drain_timeout, "not everything has ended in time");
        }
    }
}
