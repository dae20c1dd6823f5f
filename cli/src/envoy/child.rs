//! One process that `maille envoy run` has started.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use crate::failure::{Exit, Failure, Outcome};

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    process: tokio::process::Child,
    ended: Option<ExitStatus>,
}

impl Child {
    /// Starts a program that says what it says where we do.
    ///
    /// # Errors
    /// It is not there, or cannot be started.
    pub fn start(name: &'static str, program: &Path, arguments: &[OsString]) -> Outcome<Child> {
        let process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            // A group of its own: Ctrl-C at the terminal is meant for us, and we end them in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                let exit = if missing {
                    Exit::NotFound
                } else {
                    Exit::Failed
                };
                let message = format!("start {name} ({})", program.display());
                Failure::new(exit, message).caused_by(error)
            })?;
        Ok(Child {
            name,
            process,
            ended: None,
        })
    }

    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Waits for its end; again and again the same.
    pub async fn end(&mut self) -> Outcome<ExitStatus> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        let ended = self.process.wait().await.map_err(|error| {
            Failure::failed(format!("wait for the end of {}", self.name)).caused_by(error)
        })?;
        self.ended = Some(ended);
        Ok(ended)
    }

    /// Tells it to end.
    pub fn signal(&self, signal: Signal) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It may have ended at this moment; then it needs no signal.
            let _ended = kill_process(pid, signal);
        }
    }

    /// Tells it to end, and kills it where it does not within the limit.
    ///
    /// # Errors
    /// Its end cannot be waited for.
    pub async fn stop(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        self.signal(Signal::TERM);
        if let Ok(ended) = tokio::time::timeout(limit, self.end()).await {
            return ended;
        }
        crate::printer::say(&format!("{} does not end; it is killed", self.name));
        self.signal(Signal::KILL);
        self.end().await
    }
}

/// The exit code that stands for how a process ended, as a shell says it.
pub fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(script: &str) -> Child {
        let arguments = ["-c".into(), script.into()];
        Child::start("the shell", Path::new("/bin/sh"), &arguments).unwrap()
    }

    #[tokio::test]
    async fn an_end_is_told_as_a_shell_tells_it() {
        assert_eq!(code(shell("exit 7").end().await.unwrap()), 7);
        let mut killed = shell("kill -9 $$");
        assert_eq!(code(killed.end().await.unwrap()), 137);
        assert_eq!(code(killed.end().await.unwrap()), 137);
    }

    #[tokio::test]
    async fn what_does_not_end_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("deaf");
        let deaf = "trap '' TERM; : > $0; while :; do sleep 1; done";
        let arguments = ["-c".into(), deaf.into(), mark.clone().into_os_string()];
        let mut stubborn = Child::start("the shell", Path::new("/bin/sh"), &arguments).unwrap();
        let begun = tokio::time::Instant::now();
        while !mark.exists() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it never began");
            tokio::task::yield_now().await;
        }
        let ended = stubborn.stop(Duration::from_millis(100)).await.unwrap();
        assert_eq!(ended.signal(), Some(9));
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let failure = runtime
            .unwrap()
            .block_on(async { Child::start("Envoy", Path::new("/no/envoy"), &[]).unwrap_err() });
        assert_eq!(failure.exit(), Exit::NotFound);
        assert!(failure.to_string().starts_with("start Envoy (/no/envoy): "));
    }
}
