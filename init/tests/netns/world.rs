//! A world for one test: a namespace with the rules (`here`), one beside it (`there`), and what was started in them. Gone when dropped.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use super::helper::ROLE;

/// The user that the tests take for the proxy's.
pub(crate) const PROXY: u32 = 2740;
/// The user that the tests take for an application's.
pub(crate) const APP: u32 = 1740;

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct World {
    here: String,
    there: String,
    children: Vec<Child>,
    // The binaries may lie in a directory that only root may enter, and the programs run as other users.
    copies: tempfile::TempDir,
}

impl World {
    /// Two namespaces joined by a veth pair: 10.27.0.1 and fd27::1 here, 10.27.0.2, 10.27.0.3 and fd27::2 there. No default routes.
    /// `None` where namespaces cannot be made; that is a failure where CI=true.
    pub(crate) fn new() -> Option<World> {
        if let Err(reason) = possible() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "needed in CI: {reason}"
            );
            eprintln!("SKIPPED: {reason}");
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("mi{}-{number}{end}", std::process::id());
        let world = World {
            here: name("h"),
            there: name("t"),
            children: Vec::new(),
            copies: copies(),
        };
        for netns in [&world.here, &world.there] {
            must("ip", &["netns", "add", netns]);
            must("ip", &["-n", netns, "link", "set", "lo", "up"]);
        }
        must(
            "ip",
            &[
                "-n",
                &world.here,
                "link",
                "add",
                "wire",
                "type",
                "veth",
                "peer",
                "name",
                "wire",
                "netns",
                &world.there,
            ],
        );
        for (netns, addresses) in [
            (&world.here, &["10.27.0.1/24", "fd27::1/64"][..]),
            (
                &world.there,
                &["10.27.0.2/24", "10.27.0.3/24", "fd27::2/64"],
            ),
        ] {
            must("ip", &["-n", netns, "link", "set", "wire", "up"]);
            for address in addresses {
                // v6 addresses would otherwise not be usable for two seconds (duplicate address detection).
                let extra: &[&str] = if address.contains(':') {
                    &["nodad"]
                } else {
                    &[]
                };
                must(
                    "ip",
                    &[&["-n", netns, "addr", "add", address, "dev", "wire"], extra].concat(),
                );
            }
        }
        Some(world)
    }

    /// Runs a program here and answers what it printed; it must succeed.
    pub(crate) fn here(&self, line: &str) -> String {
        let output = self.try_here(line);
        assert!(
            output.status.success(),
            "`{line}` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a program here.
    pub(crate) fn try_here(&self, line: &str) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.here])
            .args(line.split_whitespace())
            .output()
            .unwrap()
    }

    /// Runs `maille-init` here; answers the exit code, stdout and stderr.
    pub(crate) fn init(&self, arguments: &str) -> (i32, String, String) {
        self.init_by("", arguments)
    }

    /// The same behind a program such as `setpriv` or `env`.
    pub(crate) fn init_by(&self, wrapper: &str, arguments: &str) -> (i32, String, String) {
        let output = self.try_here(&format!(
            "{wrapper} {} {arguments}",
            self.copy("maille-init").display()
        ));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Runs `maille-init` here; it must succeed.
    pub(crate) fn set(&self, arguments: &str) {
        let (code, _, said) = self.init(arguments);
        assert_eq!(code, 0, "maille-init {arguments}: {said}");
    }

    /// The `nat` tables of both families without the comments that carry the time, by one variant's programs.
    pub(crate) fn saved(&self, ending: &str) -> String {
        let both =
            ["iptables", "ip6tables"].map(|name| self.here(&format!("{name}{ending}-save -t nat")));
        both.concat()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Starts listeners here.
    pub(crate) fn listen_here(&mut self, addresses: &str) {
        let netns = self.here.clone();
        self.listen(&netns, addresses);
    }

    /// Starts listeners there.
    pub(crate) fn listen_there(&mut self, addresses: &str) {
        let netns = self.there.clone();
        self.listen(&netns, addresses);
    }

    fn listen(&mut self, netns: &str, addresses: &str) {
        let mut command = self.helper(netns, 0, &format!("listen {addresses}"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answer = answer(BufReader::new(child.stdout.take().unwrap()));
        self.children.push(child);
        assert_eq!(answer.as_deref(), Some("listening"), "on {addresses}");
    }

    /// Connects from here as a user; `what` is `<tcp|udp> <address> [<source ip>]`. Answers what the listener said, or the error.
    pub(crate) fn ask_here(&self, uid: u32, what: &str) -> String {
        self.ask(&self.here, uid, what)
    }

    /// Connects from there.
    pub(crate) fn ask_there(&self, what: &str) -> String {
        self.ask(&self.there, APP, what)
    }

    fn ask(&self, netns: &str, uid: u32, what: &str) -> String {
        let output = self
            .helper(netns, uid, &format!("connect {what}"))
            .output()
            .unwrap();
        answer(output.stdout.as_slice())
            .unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&output.stderr)))
    }

    fn helper(&self, netns: &str, uid: u32, role: &str) -> Command {
        let id = uid.to_string();
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            netns,
            "setpriv",
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
        ]);
        command
            .arg(self.copy("helper"))
            .args(["--exact", "helper::helper_program", "--nocapture"])
            .env(ROLE, role);
        command
    }

    fn copy(&self, name: &str) -> PathBuf {
        self.copies.path().join(name)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            child
                .kill()
                .unwrap_or_else(|e| eprintln!("a listener could not be ended: {e}"));
            child
                .wait()
                .map(drop)
                .unwrap_or_else(|e| eprintln!("a listener could not be awaited: {e}"));
        }
        for netns in [&self.here, &self.there] {
            let done = Command::new("ip").args(["netns", "del", netns]).status();
            if !done.as_ref().is_ok_and(|status| status.success()) {
                eprintln!("namespace {netns} could not be deleted: {done:?}");
            }
        }
    }
}

/// Checks a table of cases: each is (what is asked, what the answer must be).
pub(crate) fn check(cases: &[(&str, &str)], ask: impl Fn(&str) -> String) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(what, expected)| {
            let said = ask(what);
            (!said.starts_with(expected))
                .then(|| format!("{what}: expected `{expected}`, got `{said}`"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn answer(output: impl BufRead) -> Option<String> {
    output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("ANSWER ").map(str::to_owned))
}

fn copies() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::copy(
        std::env::current_exe().unwrap(),
        directory.path().join("helper"),
    )
    .unwrap();
    std::fs::copy(
        env!("CARGO_BIN_EXE_maille-init"),
        directory.path().join("maille-init"),
    )
    .unwrap();
    directory
}

fn possible() -> Result<(), String> {
    for tool in [
        "ip",
        "setpriv",
        "iptables-nft-restore",
        "iptables-legacy-restore",
        "ip6tables-nft-restore",
    ] {
        if Command::new(tool).arg("--version").output().is_err() {
            return Err(format!("`{tool}` is not installed"));
        }
    }
    let id = Command::new("id")
        .arg("-u")
        .output()
        .map_err(|e| format!("`id` does not run: {e}"))?;
    if id.stdout.trim_ascii() != b"0" {
        return Err("only root can make network namespaces".to_owned());
    }
    Ok(())
}

fn must(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
