//! Takes a run away: processes, namespaces (and with them interfaces, routes, rules), files. Done at the end of every run, again by a process of its own
//! that outlives a killed run, and once more at the next start for what even that could not do.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::args::dev::DevJanitor;
use crate::failure::{Failure, Outcome};

use super::namespaces::Namespaces;
use super::run_directory::RunDirectory;

/// How long a killed process may take to vanish before we say so.
const DEATH_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Starts the process that cleans up after a run that was killed. It waits for the end of its standard input, whose other end this process holds.
pub(crate) fn start(run: &RunDirectory) -> Outcome<tokio::process::Child> {
    let own = std::env::current_exe()
        .map_err(|error| Failure::failed("find the path of this binary").caused_by(error))?;
    tokio::process::Command::new(own)
        .args(["dev-janitor", "--run"])
        .arg(run.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A group of its own: Ctrl-C at the terminal is not meant for it.
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::failed("start the janitor").caused_by(error))
}

/// `maille dev-janitor`.
///
/// # Errors
/// Something could not be removed.
pub async fn wait_and_clean(args: &DevJanitor) -> Outcome {
    let mut rest = Vec::new();
    // An error means that the other end is gone as well.
    let _gone = std::io::stdin().lock().read_to_end(&mut rest);
    match RunDirectory::at(&args.run) {
        Some(run) => clean(&run, false).await,
        None => Ok(()),
    }
}

/// Takes away every run below `root`, and every namespace, whose owner is gone.
pub(crate) async fn clean_abandoned(root: &Path) -> Outcome {
    let mut result = Ok(());
    for run in RunDirectory::abandoned(root) {
        crate::printer::say(&format!("removing what is left of run {}", run.id()));
        result = result.and(clean(&run, false).await);
    }
    if rustix::process::geteuid().is_root() {
        for namespaces in Namespaces::abandoned() {
            end(&namespaces.processes().await);
            result = result.and(namespaces.remove().await);
        }
    }
    result
}

/// Takes one run away. Everything is tried, whatever fails; the first failure is told.
pub(crate) async fn clean(run: &RunDirectory, keep: bool) -> Outcome {
    let namespaces = Namespaces::of(run.id());
    let ended = end_all(run, &namespaces).await;
    let removed = namespaces.remove().await;
    let files = run.remove(keep).map_err(|error| {
        Failure::failed(format!("remove {}", run.path().display())).caused_by(error)
    });
    ended.and(removed).and(files)
}

async fn end_all(run: &RunDirectory, namespaces: &Namespaces) -> Outcome {
    let deadline = Instant::now() + DEATH_LIMIT;
    loop {
        let mut pids = namespaces.processes().await;
        pids.extend(run.processes().iter().map(|process| process.pid));
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::failed(format!(
                "processes {pids:?} of run {} do not end",
                run.id()
            )));
        }
        end(&pids);
        tokio::time::sleep(LOOK).await;
    }
}

fn end(pids: &[u32]) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid as i32)) {
        // It may have ended meanwhile; the caller looks again.
        let _ended = kill_process(pid, Signal::KILL);
    }
}
