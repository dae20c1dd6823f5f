//! What a cluster stands on: a network namespace without a way out, a mount namespace whose `/run`, `/var/lib` and `/var/log` are its own, a control
//! group for its pods, and a directory. All of it is found again by its name, so that what a killed test has left is taken away by the next.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::settings::{NODE_ADDRESS, SERVICES};

/// What every name begins with; the test's pid and a number follow.
const PREFIX: &str = "maille-k8s-";
const CGROUPS: &str = "/sys/fs/cgroup";
/// How long processes may take to go, once killed.
const GOING_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// Makes the namespace what a node needs, says so, and holds it. `$1` is the directory, `$2` the node's address, `$3` the services' range.
///
/// A kubelet sets six kernel parameters that belong to the whole machine: it finds files that say already what it wants. Without a route to the
/// services' range there is no way that kube-proxy's rules could change.
const HOLD: &str = r#"
set -eu
ip link set lo up
ip link add node0 type bridge
ip address add "$2/24" dev node0
ip link set node0 up
ip route add "$3" dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
for part in lib log; do
    mkdir -p "$1/over/$part/upper" "$1/over/$part/work"
    mount -t overlay -o "lowerdir=/var/$part,upperdir=$1/over/$part/upper,workdir=$1/over/$part/work" overlay "/var/$part"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/containerd /run/lock "$1/sys"
cover() {
    file="$1/sys/$(echo "$2" | tr / .)"
    echo "$3" > "$file"
    mount --bind "$file" "/proc/sys/$2"
}
cover "$1" kernel/panic 10
cover "$1" kernel/panic_on_oops 1
cover "$1" vm/overcommit_memory 1
cover "$1" vm/panic_on_oom 0
cover "$1" kernel/keys/root_maxkeys 1000000
cover "$1" kernel/keys/root_maxbytes 25000000
mount --make-rshared /
echo
exec sleep infinity
"#;

/// The namespaces, the control group and the directory of one cluster. They are taken away when it is dropped.
#[derive(Debug)]
pub(super) struct Ground {
    name: String,
    directory: PathBuf,
    holder: Child,
}

/// A network namespace that threads can enter.
#[derive(Debug)]
pub(super) struct Network(File);

impl Network {
    /// Moves the calling thread there; what it opens and starts from now on is in it.
    pub(super) fn enter(&self) -> std::io::Result<()> {
        let kind = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(self.0.as_fd(), kind)?)
    }

    pub(super) fn try_clone(&self) -> std::io::Result<Network> {
        self.0.try_clone().map(Network)
    }
}

impl Ground {
    /// Makes them, and takes away what killed tests have left of theirs.
    pub(super) fn make() -> anyhow::Result<Ground> {
        sweep();
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        make(format!("{PREFIX}{}-{number}", std::process::id()))
    }

    /// Its network.
    pub(super) fn network(&self) -> std::io::Result<Network> {
        File::open(Path::new("/run/netns").join(&self.name)).map(Network)
    }

    /// Where the cluster keeps everything.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The control group of its pods, from the root of every hierarchy.
    pub(super) fn cgroup(&self) -> String {
        format!("/{}", self.name)
    }

    /// What to start, and with which first arguments, so that `program` runs in it.
    pub(super) fn entered(&self, program: &Path) -> (PathBuf, Vec<OsString>) {
        let holder = self.holder.id().to_string();
        let mut arguments: Vec<OsString> = Vec::new();
        arguments.extend(["--target", &holder, "--net", "--mount", "--"].map(Into::into));
        arguments.push(program.into());
        ("nsenter".into(), arguments)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        remove(&self.name);
        if let Err(error) = self.holder.wait() {
            eprintln!("{}: its holder is not to be waited for: {error}", self.name);
        }
    }
}

fn make(name: String) -> anyhow::Result<Ground> {
    let directory = directory(&name);
    for part in ["log", "pki", "configuration"] {
        std::fs::create_dir_all(directory.join(part))?;
    }
    for hierarchy in hierarchies() {
        let own = hierarchy.join(&name);
        std::fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
        // A new one of version 1 has no processors and no memory: nothing could run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let above = std::fs::read(hierarchy.join(file));
            if let Ok(value) = above {
                std::fs::write(own.join(file), value)?;
            }
        }
    }
    let made = Command::new("ip").args(["netns", "add", &name]).status()?;
    ensure!(
        made.success(),
        "a network namespace cannot be made: this needs root"
    );
    let mut holder = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{name}"))
        .args([
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            HOLD,
            "hold",
        ])
        .arg(&directory)
        .args([NODE_ADDRESS, SERVICES])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = holder.stdout.take().map(|mut out| out.read_exact(&mut [0]));
    let ground = Ground {
        name,
        directory,
        holder,
    };
    said.context("its output is piped")?
        .context("the node's file systems and network cannot be set up")?;
    Ok(ground)
}

fn directory(name: &str) -> PathBuf {
    // Sockets live below it, whose paths may not be long.
    std::env::temp_dir().join(name)
}

/// The roots of the control groups: one for all, or one for each controller.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return vec![root];
    }
    let inside = std::fs::read_dir(root).into_iter().flatten().flatten();
    let all = inside.map(|entry| entry.path());
    all.filter(|path| path.is_dir() && !path.ends_with("unified"))
        .collect()
}

/// Takes away what tests have left that live no more.
fn sweep() {
    let found = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    for entry in found {
        let name = entry.file_name().to_string_lossy().into_owned();
        let rest = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'));
        let Some((pid, _)) = rest else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            remove(&name);
        }
    }
}

/// Ends every process of the cluster, and removes what it stood on. What does not go is named.
fn remove(name: &str) {
    let deadline = Instant::now() + GOING_LIMIT;
    loop {
        let processes = processes(name);
        for pid in &processes {
            if let Some(pid) = Pid::from_raw(*pid) {
                // It may have gone since.
                kill_process(pid, Signal::KILL).ok();
            }
        }
        if processes.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            eprintln!("{name}: processes {processes:?} do not end");
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let deleted = Command::new("ip").args(["netns", "delete", name]).status();
    if !deleted.is_ok_and(|status| status.success()) {
        eprintln!("{name}: the network namespace stays");
    }
    for hierarchy in hierarchies() {
        while remove_groups(&hierarchy.join(name)).is_err() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
    }
    if let Err(error) = std::fs::remove_dir_all(directory(name)) {
        eprintln!("{}: {error}", directory(name).display());
    }
}

/// Every process in its network namespace or in its control group, but for those that have ended and are not waited for yet.
fn processes(name: &str) -> Vec<i32> {
    let network = std::fs::metadata(Path::new("/run/netns").join(name)).map(|one| one.st_ino());
    let group = format!("/{name}");
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let place = PathBuf::from(format!("/proc/{pid}"));
        let own = std::fs::metadata(place.join("ns/net")).map(|one| one.st_ino());
        let groups = std::fs::read_to_string(place.join("cgroup")).unwrap_or_default();
        let grouped = groups.lines().any(|line| {
            let path = line.splitn(3, ':').nth(2).unwrap_or_default();
            path == group || path.starts_with(&format!("{group}/"))
        });
        let ended =
            std::fs::read_to_string(place.join("stat")).is_ok_and(|stat| stat.contains(") Z "));
        !ended && (grouped || matches!((&own, &network), (Ok(own), Ok(network)) if own == network))
    })
    .collect()
}

/// Removes a group with all that is below it.
fn remove_groups(group: &Path) -> std::io::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(group)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_groups(&path)?;
        }
    }
    std::fs::remove_dir(group)
}
