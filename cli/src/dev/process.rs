//! Starts the processes of the demo, each in its host's namespace and under its user, and ends them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

use crate::failure::{Failure, Outcome};

use super::app::tally::{Line, Tally};
use super::namespaces::Namespaces;
use super::run_directory::RunDirectory;

/// An application needs no longer than this to listen, or to end once it may.
const APP_LIMIT: Duration = Duration::from_secs(30);
/// How much of a log is quoted in an error.
const QUOTED_LINES: usize = 12;

/// How processes of this run are started.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    run: RunDirectory,
    namespaces: Option<Namespaces>,
    own: PathBuf,
}

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Names the log file.
    pub(crate) name: String,
    /// The host (namespace) to run in.
    pub(crate) host: String,
    /// The user to run as; the own where none is named.
    pub(crate) uid: Option<u32>,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Launcher {
    /// Without namespaces every host is this machine.
    pub(crate) fn new(run: &RunDirectory, namespaces: Option<Namespaces>) -> Outcome<Launcher> {
        let own = std::env::current_exe()
            .map_err(|error| Failure::failed("find the path of this binary").caused_by(error))?;
        Ok(Launcher {
            run: run.clone(),
            namespaces,
            own,
        })
    }

    /// Starts a program that writes nothing but a log.
    pub(crate) fn daemon(&self, launch: &Launch) -> Outcome<Process> {
        let (mut command, log) = self.command(launch)?;
        command.stdin(Stdio::null()).stdout(log_file(&log)?);
        self.spawn(launch, command, log)
    }

    /// Starts an application of the demo.
    pub(crate) fn app(&self, host: &str, name: &str, arguments: &[String]) -> Outcome<App> {
        let arguments = std::iter::once("dev-app".to_string())
            .chain(arguments.iter().cloned())
            .map(OsString::from)
            .collect();
        let launch = Launch {
            name: name.to_string(),
            host: host.to_string(),
            uid: None,
            program: self.own.clone(),
            arguments,
        };
        self.talking(&launch)
    }

    /// Starts a program that talks as applications of the demo do.
    pub(crate) fn talking(&self, launch: &Launch) -> Outcome<App> {
        let (mut command, log) = self.command(launch)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = self.spawn(launch, command, log)?;
        let (Some(input), Some(output)) = (process.child.stdin.take(), process.child.stdout.take())
        else {
            return Err(Failure::failed(format!("{} has no pipes", launch.name)));
        };
        Ok(App::new(process, input, output))
    }

    /// Runs a program to its end and gives back what it said.
    pub(crate) async fn run(&self, launch: &Launch) -> Outcome<String> {
        let (mut command, log) = self.command(launch)?;
        let output = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .await;
        let output = output.map_err(|error| {
            Failure::failed(format!("start {}", launch.program.display())).caused_by(error)
        })?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        std::fs::write(&log, format!("{said}{complaint}")).map_err(|error| {
            Failure::failed(format!("write {}", log.display())).caused_by(error)
        })?;
        if output.status.success() {
            return Ok(said);
        }
        Err(Failure::failed(format!(
            "{} ended with {}: {}",
            launch.name,
            output.status,
            complaint.trim()
        )))
    }

    fn command(&self, launch: &Launch) -> Outcome<(Command, PathBuf)> {
        let log = self
            .run
            .path()
            .join("logs")
            .join(format!("{}.log", launch.name));
        let folder = log.parent().map_or(Ok(()), std::fs::create_dir_all);
        folder.map_err(|error| {
            Failure::failed(format!("make the folder of {}", log.display())).caused_by(error)
        })?;
        let program = if launch.uid.is_some() {
            &self.own
        } else {
            &launch.program
        };
        let mut command = match &self.namespaces {
            Some(namespaces) => namespaces.enter(&launch.host, program),
            None => Command::new(program),
        };
        if let Some(uid) = launch.uid {
            command
                .args(["dev-app", "as", "--uid", &uid.to_string()])
                .arg("--")
                .arg(&launch.program);
        }
        command
            .args(&launch.arguments)
            .stderr(log_file(&log)?)
            .kill_on_drop(true);
        // A group of its own: Ctrl-C is for the demo, which ends its processes in order.
        command.process_group(0);
        Ok((command, log))
    }

    fn spawn(&self, launch: &Launch, mut command: Command, log: PathBuf) -> Outcome<Process> {
        let child = command.spawn().map_err(|error| {
            Failure::failed(format!("start {}", launch.program.display())).caused_by(error)
        })?;
        if let Some(pid) = child.id() {
            self.run.record(pid)?;
        }
        Ok(Process {
            name: launch.name.clone(),
            log,
            child,
        })
    }
}

fn log_file(path: &Path) -> Outcome<File> {
    let file = File::options().create(true).append(true).open(path);
    file.map_err(|error| Failure::failed(format!("open {}", path.display())).caused_by(error))
}

impl Process {
    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            // It may have ended meanwhile; whoever waits for it learns that.
            let _ended = kill_process(pid, signal);
        }
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> Outcome {
        self.child
            .kill()
            .await
            .map_err(|error| Failure::failed(format!("kill {}", self.name)).caused_by(error))
    }

    /// Asks it to end (SIGTERM) and waits; kills it when the time is up and says so.
    pub(crate) async fn stop(&mut self, limit: Duration) -> Outcome {
        self.signal(Signal::TERM);
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                Err(Failure::failed(format!("wait for {}", self.name)).caused_by(error))
            }
            Err(_) => {
                self.kill().await?;
                Err(self.failure(&format!(
                    "did not end within {} s of SIGTERM and was killed",
                    limit.as_secs()
                )))
            }
        }
    }

    /// A failure of this process, with the end of its log.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines = log.lines().rev().take(QUOTED_LINES).collect::<Vec<_>>();
        let quoted = lines
            .into_iter()
            .rev()
            .map(|line| format!("\n  | {line}"))
            .collect::<String>();
        Failure::failed(format!("{} {what}{quoted}", self.name)).next(format!(
            "its whole log is {} (kept with --keep)",
            self.log.display()
        ))
    }
}

/// A running application of the demo.
#[derive(Debug)]
pub(crate) struct App {
    process: Process,
    input: Option<ChildStdin>,
    output: watch::Receiver<Said>,
}

/// What an application has printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// It listens.
    pub(crate) ready: bool,
    /// The last counts, by whom it called.
    pub(crate) lines: BTreeMap<String, Line>,
}

impl App {
    fn new(process: Process, input: ChildStdin, output: ChildStdout) -> App {
        let (sender, receiver) = watch::channel(Said::default());
        // Ends with the application's output.
        tokio::spawn(listen(output, sender));
        App {
            process,
            input: Some(input),
            output: receiver,
        }
    }

    /// Waits until it listens.
    pub(crate) async fn ready(&mut self) -> Outcome {
        let waiting =
            tokio::time::timeout(APP_LIMIT, self.output.wait_for(|said| said.ready)).await;
        match waiting {
            Ok(Ok(_)) => Ok(()),
            _ => Err(self.process.failure("did not start")),
        }
    }

    /// What it has printed so far.
    pub(crate) fn said(&self) -> Said {
        self.output.borrow().clone()
    }

    /// Waits for the next line of counts and gives the calls so far.
    pub(crate) async fn next_tally(&mut self) -> Outcome<Tally> {
        match tokio::time::timeout(APP_LIMIT, self.output.changed()).await {
            Ok(Ok(())) => Ok(self.tally()),
            _ => Err(self.process.failure("printed no counts")),
        }
    }

    fn tally(&self) -> Tally {
        self.output
            .borrow()
            .lines
            .values()
            .next()
            .map(|line| line.tally.clone())
            .unwrap_or_default()
    }

    /// Waits until a client with a limited number of calls has made them.
    pub(crate) async fn done(mut self, limit: Duration) -> Outcome<Tally> {
        match tokio::time::timeout(limit, self.process.child.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => return Err(self.process.failure(&format!("ended with {status}"))),
            Ok(Err(error)) => {
                return Err(
                    Failure::failed(format!("wait for {}", self.process.name)).caused_by(error)
                );
            }
            Err(_) => {
                let tally = self.tally();
                self.process.kill().await?;
                let message = format!(
                    "was not done within {} s: {} sent, {:?}",
                    limit.as_secs(),
                    tally.sent,
                    tally.errors
                );
                return Err(self.process.failure(&message));
            }
        }
        self.drained().await;
        Ok(self.tally())
    }

    /// Tells it to stop, waits until the calls under way are answered, and gives its last counts.
    pub(crate) async fn stop(mut self) -> Outcome<Tally> {
        self.input = None;
        self.done(APP_LIMIT).await
    }

    /// Waits until all of its output is read: the channel closes with it.
    async fn drained(&mut self) {
        while self.output.changed().await.is_ok() {}
    }
}

async fn listen(output: ChildStdout, said: watch::Sender<Said>) {
    let mut lines = BufReader::new(output).lines();
    // An error is the end of the output too.
    while let Ok(Some(text)) = lines.next_line().await {
        said.send_modify(|said| match serde_json::from_str::<Line>(&text) {
            Ok(line) => drop(said.lines.insert(line.to.clone(), line)),
            Err(_) => said.ready |= text == "ready",
        });
    }
}
