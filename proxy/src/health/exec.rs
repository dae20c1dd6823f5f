//! A command that is the question: it runs without a shell, as the proxy's user, and its exit code is the answer.

use super::probe::Failure;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

/// Where programs are looked for; all that the command's environment holds.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is kept of the output: the end of it, in which the last line stands.
const KEPT: usize = 4 * 1024;
/// Read at once.
const CHUNK: usize = 4 * 1024;
/// Read after the end: as much as a pipe holds. A child that the command left behind may go on writing.
const REST: usize = 64 * 1024;
/// Of the last line, in the log.
const LINE: usize = 200;

/// The command ends with exit code 0. Whoever drops this in the middle kills it, and all that it has started.
pub(super) async fn run(command: &[String]) -> Result<(), Failure> {
    let (mut group, output) = start(command).map_err(Failure::Start)?;
    let mut said = Tail::default();
    let status = group.wait(&output, &mut said).await?;
    if status.success() {
        return Ok(());
    }
    let said = said.last_line();
    Err(Failure::Exit { status, said })
}

fn start(command: &[String]) -> io::Result<(Group, Receiver)> {
    let [program, arguments @ ..] = command else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // One pipe for both, so that the last line is the last line.
    let (reader, writer) = io::pipe()?;
    let output = Receiver::from_owned_fd(OwnedFd::from(reader))?;
    let mut command = Command::new(program);
    let child = command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    Ok((Group { child }, output))
}

/// A command and what it has started: a process group of its own, which is killed when this is dropped before its end.
struct Group {
    child: Child,
}

impl Group {
    /// Until it ends. What it says is read all the while, else it would stop at a full pipe.
    async fn wait(&mut self, output: &Receiver, said: &mut Tail) -> io::Result<ExitStatus> {
        let mut open = true;
        loop {
            tokio::select! {
                status = self.child.wait() => {
                    said.take_rest(output);
                    return status;
                }
                readable = output.readable(), if open => {
                    readable?;
                    open = said.take(output)? != Some(0);
                }
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Once it has been waited for it has no pid any more, and its number may be another's.
        let pid = self.child.id();
        let group = pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(group) = group
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(%error, "a health check's command was gone before it was killed");
        }
    }
}

/// The end of an output.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Takes what is there: how much it was, or `None` where there was nothing after all.
    fn take(&mut self, output: &Receiver) -> io::Result<Option<usize>> {
        let mut chunk = [0; CHUNK];
        match output.try_read(&mut chunk) {
            Ok(length) => {
                self.push(&chunk[..length]);
                Ok(Some(length))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is still in the pipe. An error here costs a line in the log.
    fn take_rest(&mut self, output: &Receiver) {
        let mut taken = 0;
        while taken < REST {
            match self.take(output) {
                Ok(Some(length)) if length > 0 => taken += length,
                _ => return,
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let excess = self.0.len().saturating_sub(KEPT);
        self.0.drain(..excess);
    }

    /// The last line that says something, without what a terminal or a log could misunderstand.
    fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let line = text.lines().rev().map(str::trim);
        let line = line.into_iter().find(|line| !line.is_empty());
        let line = line.unwrap_or_default().chars();
        line.filter(|one| !one.is_control()).take(LINE).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fakes::eventually;
    use std::time::Duration;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).into()
    }

    /// What becomes of a command.
    async fn check(command: &[String], expected: &str) {
        let outcome = tokio::time::timeout(Duration::from_secs(20), run(command)).await;
        let found = match outcome.unwrap() {
            Ok(()) => "healthy".to_owned(),
            Err(failure) => failure.to_string(),
        };
        assert_eq!(found, expected, "for {command:?}");
    }

    #[tokio::test]
    async fn the_exit_code_decides_and_the_last_line_says_why() {
        check(&shell("echo up"), "healthy").await;
        check(&shell("exit 3"), "the command ended with exit status: 3").await;
        let script = "echo begin; echo 'no database' >&2; echo; exit 1";
        let expected = "the command ended with exit status: 1; it said: no database";
        check(&shell(script), expected).await;
        let script = "kill -9 $$";
        let expected = "the command ended with signal: 9 (SIGKILL)";
        check(&shell(script), expected).await;
        let missing = ["/nowhere/at-all".to_owned()];
        let expected = "the command cannot be started: No such file or directory (os error 2)";
        check(&missing, expected).await;
    }

    #[tokio::test]
    async fn a_name_is_found_in_the_path_and_words_stay_words() {
        check(&["true".to_owned()], "healthy").await;
        let words = ["sh", "-c", "echo \"$1\"; exit 1", "-", "$(echo x); a b"];
        let expected = "the command ended with exit status: 1; it said: $(echo x); a b";
        check(&words.map(str::to_owned), expected).await;
    }

    #[tokio::test]
    async fn nothing_of_the_proxys_environment_is_seen() {
        // Cargo sets this for every test.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let script = "echo \"$CARGO_MANIFEST_DIR$HOME|$PATH|$PWD\"; exit 1";
        let expected = format!("the command ended with exit status: 1; it said: |{PATH}|/");
        check(&shell(script), &expected).await;
    }

    #[tokio::test]
    async fn a_flood_of_output_is_read_and_not_kept() {
        // More than a pipe holds, with the word at its end.
        let script = "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo 'the end'; exit 1";
        let expected = "the command ended with exit status: 1; it said: the end";
        check(&shell(script), expected).await;
        let mut tail = Tail::default();
        tail.push(&vec![b'x'; 3 * KEPT]);
        assert_eq!((tail.0.len(), tail.last_line().len()), (KEPT, LINE));
        tail.push("\x1b[31mred\n".as_bytes());
        assert_eq!(tail.last_line().len(), LINE);
        let mut tail = Tail::default();
        tail.push("one\n\x1b[31mred\n".as_bytes());
        assert_eq!(tail.last_line(), "[31mred");
    }

    #[tokio::test]
    async fn what_is_given_up_is_killed_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("children");
        // It says the numbers of itself and of a child, and then both wait.
        let path = file.display();
        let script = format!("sleep 1000 & echo $$ $! > {path}.new; mv {path}.new {path}; wait");
        let command = shell(&script);
        let running = tokio::spawn(async move { run(&command).await });
        let told = || std::fs::read_to_string(&file).ok();
        let pids = eventually("the command's word", told).await;
        let pids: Vec<i32> = pids
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect();
        assert_eq!(pids.len(), 2);
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        for pid in pids {
            eventually("the process's end", || (!lives(pid)).then_some(())).await;
        }
    }

    /// A zombie that nobody has waited for yet does not live.
    fn lives(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
        state.is_some_and(|rest| !rest.starts_with(['Z', 'X']))
    }
}
