//! Two proxies with mutual TLS between them, as processes whose CPU time and memory the kernel accounts.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use maille_tests::account;

/// A pair under measurement; its processes end with it.
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) http1: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// The `Host` that leads to the backend.
    pub(crate) authority: String,
    children: Vec<Child>,
    pids: Vec<u32>,
}

impl Pair {
    pub(crate) fn new(name: &'static str, http1: SocketAddr, grpc: SocketAddr) -> Self {
        let authority = "bench.maille".into();
        Self {
            name,
            http1,
            grpc,
            authority,
            children: Vec::new(),
            pids: Vec::new(),
        }
    }

    pub(crate) fn spawn(&mut self, program: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        self.pids.push(child.id());
        self.children.push(child);
        Ok(())
    }

    /// Counts a process that another owner started.
    pub(crate) fn watch(&mut self, pid: u32) {
        self.pids.push(pid);
    }

    /// CPU time of all its processes so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.pids.iter().map(|pid| account::cpu(*pid)).sum()
    }

    /// Resident memory of its largest process, KiB.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let sizes: anyhow::Result<Vec<u64>> =
            self.pids.iter().map(|pid| account::memory(*pid)).collect();
        Ok(sizes?.into_iter().max().unwrap_or(0))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Already gone is as good.
            child.kill().ok();
            child.wait().ok();
        }
    }
}
