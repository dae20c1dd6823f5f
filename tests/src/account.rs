//! What the kernel accounts to a process.

use std::time::Duration;

use anyhow::Context;

/// CPU time, user and system, of all its threads that live.
///
/// # Errors
/// The process has ended.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
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

/// Resident memory, KiB.
///
/// # Errors
/// The process has ended.
pub fn memory(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} has ended"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.context("VmRSS is missing")?.parse().context("VmRSS")
}
