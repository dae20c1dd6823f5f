//! Network namespaces: one a host of the demo, joined by a bridge in one of their own, so that nothing of the machine's network is touched.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::failure::{Exit, Failure, Outcome};

use super::run_directory::ProcessId;

/// What every name of ours starts with.
const PREFIX: &str = "maille";
/// Where `ip netns` keeps namespaces by name.
const NAMED: &str = "/run/netns";
/// Where `ip netns exec` finds files that stand over those in /etc.
const FILES: &str = "/etc/netns";
/// In a namespace's resolv.conf: whose the namespace is.
const OWNER: &str = "# maille dev ";
/// The bridge, in the namespace that is its own.
const BRIDGE: &str = "br0";
/// The namespace of the bridge, of the controllers, and of whoever is outside the mesh.
pub(crate) const HUB: &str = "hub";

/// A host of the demo: its last byte in both networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host(pub(crate) u8);

impl Host {
    /// The bridge itself.
    pub(crate) const BRIDGE: Host = Host(1);

    /// 10.47.0.x: nothing outside the namespaces ever sees it.
    pub(crate) fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 47, 0, self.0)
    }

    /// fd47::x.
    pub(crate) fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd47, 0, 0, 0, 0, 0, 0, u16::from(self.0))
    }
}

/// The namespaces of one run.
#[derive(Clone, Debug)]
pub(crate) struct Namespaces {
    run: String,
}

impl Namespaces {
    /// Those of the run with this id.
    pub(crate) fn of(run: &str) -> Namespaces {
        Namespaces {
            run: run.to_string(),
        }
    }

    /// The full name of one.
    pub(crate) fn name(&self, host: &str) -> String {
        format!("{PREFIX}-{}-{host}", self.run)
    }

    /// Makes the hub: the bridge, with an address for each of `residents` (the controllers).
    pub(crate) async fn make_hub(&self, residents: &[Host]) -> Outcome {
        self.add(HUB).await?;
        let mut script =
            format!("link set lo up\nlink add {BRIDGE} type bridge\nlink set {BRIDGE} up\n");
        for host in [Host::BRIDGE].iter().chain(residents) {
            script.push_str(&addresses(*host, BRIDGE));
        }
        self.batch(HUB, &script).await
    }

    /// Makes a host and joins it to the hub.
    pub(crate) async fn make_host(&self, name: &str, host: Host) -> Outcome {
        self.add(name).await?;
        let peer = self.name(name);
        self.batch(HUB, &format!("link add v{} type veth peer name eth0 netns {peer}\nlink set v{} master {BRIDGE} up\n", host.0, host.0)).await?;
        let gateway = Host::BRIDGE;
        let script = format!(
            "link set lo up\n{}link set eth0 up\nroute add default via {}\nroute add ::/0 via {}\n",
            addresses(host, "eth0"),
            gateway.v4(),
            gateway.v6()
        );
        self.batch(name, &script).await
    }

    /// The command that runs `program` inside.
    pub(crate) fn enter(&self, host: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name(host)])
            .arg(program);
        command
    }

    async fn add(&self, host: &str) -> Outcome {
        let name = self.name(host);
        // First the file: it says whose the namespace is, should this process be killed in between.
        let owner = ProcessId::own().map(ProcessId::text).unwrap_or_default();
        let text = format!(
            "{OWNER}{owner}\nnameserver {}\noptions timeout:2 attempts:2\n",
            Host::BRIDGE.v4()
        );
        let folder = Path::new(FILES).join(&name);
        let written = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(folder.join("resolv.conf"), text));
        written.map_err(|error| {
            Failure::failed(format!("write {}", folder.display())).caused_by(error)
        })?;
        ip(&["netns", "add", &name]).await
    }

    async fn batch(&self, host: &str, script: &str) -> Outcome {
        let name = self.name(host);
        let mut command = Command::new("ip");
        command
            .args(["-n", &name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| missing(&error))?;
        if let Some(mut input) = child.stdin.take() {
            // If it has ended early its exit says why.
            let _ended = input.write_all(script.as_bytes()).await;
        }
        let output = child
            .wait_with_output()
            .await
            .map_err(|error| Failure::failed("wait for ip").caused_by(error))?;
        judge(&format!("set up namespace {name}"), &output)
    }

    /// The pids of all processes inside.
    pub(crate) async fn processes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for name in self.existing() {
            if let Ok(output) = Command::new("ip")
                .args(["netns", "pids", &name])
                .output()
                .await
            {
                pids.extend(
                    String::from_utf8_lossy(&output.stdout)
                        .lines()
                        .filter_map(|line| line.trim().parse::<u32>().ok()),
                );
            }
        }
        pids
    }

    /// Takes all of them away; with a namespace go its interfaces, routes and rules.
    pub(crate) async fn remove(&self) -> Outcome {
        let mut result = Ok(());
        for name in self.existing() {
            if Path::new(NAMED).join(&name).exists() {
                result = result.and(ip(&["netns", "delete", &name]).await);
            }
            let folder = Path::new(FILES).join(&name);
            let removed = std::fs::remove_dir_all(&folder)
                .or_else(|error| if folder.exists() { Err(error) } else { Ok(()) });
            result = result.and(removed.map_err(|error| {
                Failure::failed(format!("remove {}", folder.display())).caused_by(error)
            }));
        }
        // If it was made for us alone it is empty now, and goes too.
        if std::fs::read_dir(FILES).is_ok_and(|mut rest| rest.next().is_none()) {
            let _not_ours = std::fs::remove_dir(FILES);
        }
        result
    }

    fn existing(&self) -> Vec<String> {
        let prefix = self.name("");
        let mut names = [NAMED, FILES]
            .iter()
            .flat_map(|folder| list(Path::new(folder)))
            .filter(|name| name.starts_with(&prefix))
            .collect::<Vec<_>>();
        names.sort();
        names.dedup();
        names
    }

    /// The runs that have namespaces and no owner any more.
    pub(crate) fn abandoned() -> Vec<Namespaces> {
        let mut runs = list(Path::new(FILES))
            .into_iter()
            .filter(|name| !owned(name))
            .filter_map(|name| run_of(&name))
            .collect::<Vec<_>>();
        runs.sort();
        runs.dedup();
        runs.into_iter().map(|run| Namespaces { run }).collect()
    }
}

fn addresses(host: Host, interface: &str) -> String {
    // Without `nodad` a v6 address cannot be used for its first seconds.
    format!(
        "addr add {}/24 dev {interface}\naddr add {}/64 dev {interface} nodad\n",
        host.v4(),
        host.v6()
    )
}

fn list(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// `maille-<run>-<host>` → `<run>`.
fn run_of(name: &str) -> Option<String> {
    let (run, host) = name
        .strip_prefix(PREFIX)?
        .strip_prefix('-')?
        .split_once('-')?;
    let ours =
        run.len() == 4 && run.bytes().all(|byte| byte.is_ascii_hexdigit()) && !host.is_empty();
    ours.then(|| run.to_string())
}

fn owned(name: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(Path::new(FILES).join(name).join("resolv.conf")) else {
        return false;
    };
    // Without our mark it is somebody else's, and so not ours to remove.
    let Some(owner) = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix(OWNER))
    else {
        return true;
    };
    ProcessId::parse(owner).is_some_and(ProcessId::alive)
}

async fn ip(arguments: &[&str]) -> Outcome {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .await
        .map_err(|error| missing(&error))?;
    judge(&format!("ip {}", arguments.join(" ")), &output)
}

fn judge(doing: &str, output: &Output) -> Outcome {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Failure::failed(format!("{doing}: {said}")))
}

fn missing(error: &std::io::Error) -> Failure {
    Failure::new(Exit::NotFound, format!("start ip: {error}"))
        .next("install iproute2, or use --no-netns")
}

/// The programs that the namespaces need, and are not installed.
pub(crate) fn missing_programs() -> Vec<&'static str> {
    let found = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
            .collect::<Vec<_>>();
        folders.iter().any(|folder| folder.join(program).is_file())
    };
    [
        ("ip", "iproute2"),
        ("iptables-restore", "iptables"),
        ("ip6tables-restore", "iptables"),
    ]
    .into_iter()
    .filter(|(program, _)| !found(program))
    .map(|(_, package)| package)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_belong_to_a_run() {
        let check =
            |name: &str, run: Option<&str>| assert_eq!(run_of(name).as_deref(), run, "{name}");
        check("maille-0a1f-web", Some("0a1f"));
        check("maille-0a1f-api-v1", Some("0a1f"));
        check("maille-0a1f-", None);
        check("maille-zzzz-web", None);
        check("other-0a1f-web", None);
        check("maille-web", None);
    }
}
