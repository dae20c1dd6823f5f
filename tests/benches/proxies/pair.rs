//! Two proxies with mutual TLS between them, as processes whose CPU time and memory the kernel accounts.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

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

    /// CPU time of all its processes so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.pids.iter().map(|pid| cpu(*pid)).sum()
    }

    /// Resident memory of its largest process, KiB.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let sizes: anyhow::Result<Vec<u64>> = self.pids.iter().map(|pid| memory(*pid)).collect();
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

/// CPU time (user and system) of a process, to the microsecond where the scheduler accounts it.
fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut total = 0;
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .with_context(|| format!("process {pid} has ended"))?;
    for task in tasks {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let nanos = text.split(' ').next().unwrap_or("0");
        total += nanos.parse::<u64>().context("schedstat's first field")?;
    }
    Ok(Duration::from_nanos(total))
}

/// Resident memory of a process, KiB.
fn memory(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.context("VmRSS is missing")?.parse().context("VmRSS")
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
