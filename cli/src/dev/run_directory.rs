//! The one directory of a run: everything that the demo makes is in it, and what is needed to take the rest away.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::Rng;

use crate::failure::{Exit, Failure, Outcome};

/// A Unix socket's path holds 107 bytes (unix(7)); this is the longest below a run's directory.
const PATH_LIMIT: usize = 107 - "/stranger-envoy/data/agent.sock".len();
/// In the run's directory: whose it is.
const OWNER: &str = "owner";
/// In the run's directory: one file a process, named by its pid.
const PROCESSES: &str = "processes";

/// A process, told apart from a later one with the same pid by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    started: u64,
}

impl ProcessId {
    /// The process that has this pid now.
    pub(crate) fn of(pid: u32) -> Option<ProcessId> {
        // Field 22 of proc_pid_stat(5); the second, the name, may hold spaces and ends with the last parenthesis.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields = stat
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .collect::<Vec<_>>();
        let alive = !matches!(fields.first(), Some(&"Z" | &"X"));
        let started = fields.get(19)?.parse().ok()?;
        alive.then_some(ProcessId { pid, started })
    }

    /// This process.
    pub(crate) fn own() -> Option<ProcessId> {
        ProcessId::of(std::process::id())
    }

    /// Whether it still runs.
    pub(crate) fn alive(self) -> bool {
        ProcessId::of(self.pid) == Some(self)
    }

    /// As it is written down.
    pub(crate) fn text(self) -> String {
        format!("{} {}", self.pid, self.started)
    }

    /// Reads what `text` wrote.
    pub(crate) fn parse(text: &str) -> Option<ProcessId> {
        let (pid, started) = text.trim().split_once(' ')?;
        Some(ProcessId {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
        })
    }
}

/// A run's directory.
#[derive(Clone, Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    id: String,
}

impl RunDirectory {
    /// Makes the directory of a new run below `root`.
    pub(crate) fn create(root: &Path) -> Outcome<RunDirectory> {
        let id = format!("{:04x}", rand::rng().next_u32() & 0xffff);
        let path = root.join(&id);
        let made =
            std::fs::create_dir_all(path.join(PROCESSES)).and_then(|()| open_to_others(&path));
        made.map_err(|error| {
            Failure::failed(format!("make {}", path.display()))
                .caused_by(error)
                .next("pass --directory DIR")
        })?;
        let run = RunDirectory { path, id };
        let owner = ProcessId::own().ok_or_else(|| {
            Failure::failed("/proc is not mounted").next("mount -t proc proc /proc")
        })?;
        run.write(OWNER, &owner.text())?;
        Ok(run)
    }

    /// An existing run.
    pub(crate) fn at(path: &Path) -> Option<RunDirectory> {
        let id = path.file_name()?.to_str()?.to_string();
        path.join(OWNER).exists().then(|| RunDirectory {
            path: path.to_path_buf(),
            id,
        })
    }

    /// Below `root`, the runs whose owner is gone.
    pub(crate) fn abandoned(root: &Path) -> Vec<RunDirectory> {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| RunDirectory::at(&entry.path()))
            .filter(|run| !run.owner().is_some_and(ProcessId::alive))
            .collect()
    }

    fn owner(&self) -> Option<ProcessId> {
        ProcessId::parse(&std::fs::read_to_string(self.path.join(OWNER)).ok()?)
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The run's id, which stands in the name of everything it makes elsewhere.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Writes a file below the directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.path.join(name);
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder
            .and_then(|()| std::fs::File::create(&path))
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| {
            Failure::failed(format!("write {}", path.display())).caused_by(error)
        })?;
        Ok(path)
    }

    /// Writes down a process, so that it can be ended by whoever cleans up.
    pub(crate) fn record(&self, pid: u32) -> Outcome {
        match ProcessId::of(pid) {
            Some(id) => self
                .write(&format!("{PROCESSES}/{pid}"), &id.text())
                .map(drop),
            // It has ended already.
            None => Ok(()),
        }
    }

    /// The processes of the run that still live.
    pub(crate) fn processes(&self) -> Vec<ProcessId> {
        let entries = std::fs::read_dir(self.path.join(PROCESSES))
            .into_iter()
            .flatten()
            .flatten();
        let recorded = entries
            .filter_map(|entry| ProcessId::parse(&std::fs::read_to_string(entry.path()).ok()?));
        recorded.filter(|process| process.alive()).collect()
    }

    /// Takes the directory away; `keep` leaves the rest of it but forgets whose it is.
    pub(crate) fn remove(&self, keep: bool) -> std::io::Result<()> {
        if !keep {
            std::fs::remove_dir_all(&self.path)?;
            if let Some(root) = self.path.parent() {
                // Only if it is empty: other runs may be in it.
                let _others = std::fs::remove_dir(root);
            }
            return Ok(());
        }
        std::fs::remove_dir_all(self.path.join(PROCESSES))?;
        std::fs::remove_file(self.path.join(OWNER))
    }
}

/// Where runs are kept: `wanted`, else `target/dev` of the checkout that this binary was built in, else the temporary directory. The sidecars run as a user of
/// their own, so that every folder above must let others pass; a home directory often does not.
pub(crate) fn root(wanted: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(wanted) = wanted {
        return usable(wanted).then(|| wanted.to_path_buf()).ok_or_else(|| {
            let message = format!("{} is too long a path, or closed to other users", wanted.display());
            Failure::new(Exit::Refused, message).next("sidecars run as a user of their own: choose a directory that others may pass through")
        });
    }
    let checkout = std::env::current_exe().ok().and_then(|own| {
        let target = own
            .ancestors()
            .find(|folder| folder.file_name().is_some_and(|name| name == "target"))?;
        Some(target.join("dev"))
    });
    let places = checkout
        .into_iter()
        .chain([std::env::temp_dir().join("maille-dev")]);
    places
        .into_iter()
        .find(|place| usable(place))
        .ok_or_else(|| {
            Failure::failed("no directory is open to other users").next("pass --directory DIR")
        })
}

fn usable(place: &Path) -> bool {
    let open = |folder: &Path| {
        folder
            .metadata()
            .map_or(true, |data| data.mode() & 0o001 != 0)
    };
    let own = !rustix::process::geteuid().is_root();
    place.as_os_str().len() + "/0000".len() <= PATH_LIMIT
        && place.is_absolute()
        && (own || place.ancestors().all(open))
}

fn open_to_others(folder: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_told_apart_from_a_later_one_with_its_pid() {
        let own = ProcessId::own().unwrap();
        assert!(own.alive());
        assert_eq!(ProcessId::parse(&own.text()), Some(own));
        assert!(
            !ProcessId {
                started: own.started + 1,
                ..own
            }
            .alive()
        );
    }

    #[test]
    fn only_runs_without_an_owner_are_abandoned() {
        let root = tempfile::tempdir().unwrap();
        let lived = RunDirectory::create(root.path()).unwrap();
        assert!(RunDirectory::abandoned(root.path()).is_empty());
        lived.write(OWNER, "1 1").unwrap();
        let found = RunDirectory::abandoned(root.path());
        assert_eq!(
            found.iter().map(RunDirectory::id).collect::<Vec<_>>(),
            [lived.id()]
        );
    }

    #[test]
    fn recorded_processes_are_found_while_they_live() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(root.path()).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        run.record(child.id()).unwrap();
        assert_eq!(
            run.processes()
                .iter()
                .map(|process| process.pid)
                .collect::<Vec<_>>(),
            [child.id()]
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(run.processes().is_empty());
    }
}
