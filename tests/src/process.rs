//! A process that a test started: its log is kept, it is ended by its pid, and it never outlives its test.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How much of a log stands in an error.
const QUOTED_LINES: usize = 30;

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; what it prints goes to `<directory>/<name>.log`, behind what an earlier one of the name has printed.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        name: &str,
        directory: &Path,
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
    ) -> anyhow::Result<Process> {
        let log = directory.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Process {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// What it was called when it was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid, while it has not been waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It has ended already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.with_context(|| format!("{} has ended already", self.name))?;
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Ends it as `kill -9` does.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("killing {}", self.name))
    }

    /// Has it end by itself (SIGTERM) and answers how it did.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub async fn stop(mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended(limit).await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!(
                "{} did not end within {limit:?}\n{}",
                self.name,
                self.tail()
            ),
        }
    }

    /// Whether it runs; where it has ended, an error with the end of its log.
    ///
    /// # Errors
    /// It has ended.
    pub fn alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}\n{}", self.name, self.tail()),
        }
    }

    /// All that it and earlier ones of its name have printed.
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// The end of that.
    pub fn tail(&self) -> String {
        tail(&self.name, &self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // `kill_on_drop` ends it. What it said helps whoever reads the failed test.
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

fn read_log(path: &Path) -> String {
    match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(no log: {error})"),
    }
}

fn tail(name: &str, log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(QUOTED_LINES);
    let quoted: Vec<String> = lines[from..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect();
    format!("the log of {name} ends with:\n{}", quoted.join("\n"))
}

/// What a program printed and how it ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started, or does not end within `limit`; then it is killed.
pub async fn run(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    limit: Duration,
) -> anyhow::Result<Finished> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let Ok(output) = tokio::time::timeout(limit, command.output()).await else {
        bail!("{} did not end within {limit:?}", program.display());
    };
    let output = output.with_context(|| format!("running {}", program.display()))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Finished {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    })
}
