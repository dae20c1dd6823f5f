//! The Debian packages: what is in them, that they install and go, and that the units and examples in them hold.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::print_stderr,
    reason = "what is skipped is said in the test's output"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use maille_tests::binaries::Binaries;

/// Every unit that is installed, with the package that brings it.
const UNITS: [&str; 3] = ["maille-controller", "maille-proxy", "maille-init"];
/// The number by which `maille-init` knows the sidecar.
const PROXY_UID: &str = "2740";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What a command printed; its failure is the test's.
fn run(command: &mut Command) -> String {
    let output = outcome(command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn outcome(command: &mut Command) -> Output {
    let started = command.output();
    started.unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"))
}

/// Packages of the binaries that the tests run, by name. Not compressed: nothing is learned from that here.
fn build(out: &Path) -> BTreeMap<String, PathBuf> {
    let cli = Binaries::get().cli();
    let script = repository().join("cli/packaging/deb");
    let printed = run(Command::new(script)
        .arg(cli.parent().unwrap())
        .arg(out)
        .arg("none"));
    let packages = printed.lines().map(PathBuf::from);
    let named = packages.map(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        let name = name.split('_').next().unwrap_or_default().to_owned();
        (name, path)
    });
    named.collect()
}

/// Says why a test does not run here; where it must, it fails.
fn skipped(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "cannot be skipped in CI: {reason}"
    );
    eprintln!("SKIPPED: {reason}");
}

fn there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn packages_are_whole_and_the_same_every_time() {
    if !there("dpkg-deb") {
        return skipped("there is no dpkg-deb");
    }
    let directory = tempfile::tempdir().unwrap();
    let packages = build(&directory.path().join("one"));
    let names: Vec<&str> = packages.keys().map(String::as_str).collect();
    assert_eq!(names, ["maille", "maille-controller", "maille-proxy"]);
    for (name, path) in build(&directory.path().join("two")) {
        let same = fs::read(&path).unwrap() == fs::read(&packages[&name]).unwrap();
        assert!(same, "{name} is not the same when it is built again");
        fs::remove_file(path).unwrap();
    }
    for (name, path) in &packages {
        let field = |field: &str| run(Command::new("dpkg-deb").arg("--field").arg(path).arg(field));
        assert_eq!(field("Package").trim(), name);
        assert_eq!(field("Version").trim(), env!("CARGO_PKG_VERSION"));
        let contents = run(Command::new("dpkg-deb").arg("--contents").arg(path));
        for line in contents.lines() {
            assert!(line.contains(" root/root "), "{name}: {line}");
        }
        for own in ["copyright", "changelog.gz"] {
            let file = format!("./usr/share/doc/{name}/{own}");
            assert!(contents.contains(&file), "{name} has no {file}");
        }
    }
    let control = |name: &str, file: &str| {
        let mut command = Command::new("dpkg-deb");
        run(command.arg("--info").arg(&packages[name]).arg(file))
    };
    assert_eq!(
        control("maille-proxy", "conffiles"),
        "/etc/maille/init.conf\n"
    );
    let sums = control("maille", "md5sums");
    assert_eq!(
        sums.lines()
            .filter(|line| line.ends_with("  usr/bin/maille"))
            .count(),
        1
    );
}

#[test]
fn what_is_unpacked_runs_and_its_units_and_examples_hold() {
    if !there("dpkg-deb") {
        return skipped("there is no dpkg-deb");
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    for path in build(&directory.path().join("packages")).values() {
        run(Command::new("dpkg-deb").arg("-x").arg(path).arg(&root));
        fs::remove_file(path).unwrap();
    }
    let program = |name: &str| Command::new(root.join("usr/bin").join(name));
    for name in ["maille", "maille-controller", "maille-proxy", "maille-init"] {
        let said = run(program(name).arg("--version"));
        assert_eq!(said.trim(), format!("{name} {}", env!("CARGO_PKG_VERSION")));
    }
    for (name, example) in [
        ("maille-controller", "controller.yaml"),
        ("maille-proxy", "proxy.yaml"),
        ("maille-proxy", "proxy-shared.yaml"),
    ] {
        let file = root.join(format!("usr/share/doc/{name}/examples/{example}"));
        run(program(name).arg("check-config").arg("--config").arg(file));
    }
    let completions = root.join("usr/share/bash-completion/completions/maille");
    assert!(fs::read_to_string(completions).unwrap().contains("_maille"));
    options_of_init_hold(&root);
    units_hold(&root);
}

/// The commands of `maille-init.service` with the options that its configuration suggests, without setting anything.
fn options_of_init_hold(root: &Path) {
    let unit = fs::read_to_string(root.join("lib/systemd/system/maille-init.service")).unwrap();
    let set = value(&unit, "ExecStart");
    assert!(set.contains(&format!("--proxy-uid {PROXY_UID} ")), "{set}");
    let suggested = fs::read_to_string(root.join("etc/maille/init.conf")).unwrap();
    let suggested = suggested
        .lines()
        .find_map(|line| line.strip_prefix("#MAILLE_INIT_OPTIONS=\""));
    let suggested = suggested.unwrap().trim_end_matches('"');
    let resolver = root.join("resolv.conf");
    fs::write(&resolver, "nameserver 192.0.2.53\n").unwrap();
    let set = set.replace("$MAILLE_INIT_OPTIONS", suggested);
    let words = set.split_whitespace().skip(1);
    let rules = run(Command::new(root.join("usr/bin/maille-init"))
        .args(words)
        .arg("--resolv-conf")
        .arg(resolver)
        .arg("--simulate"));
    for part in ["2740", "240.0.0.0/4", "8080", "192.0.2.53"] {
        assert!(rules.contains(part), "no {part} in:\n{rules}");
    }
}

/// What stands behind `key=` in a unit.
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key));
    let mut values = lines.filter_map(|rest| rest.strip_prefix('='));
    let value = values.next();
    value.unwrap_or_else(|| panic!("no {key}= in:\n{unit}"))
}

/// systemd itself reads the units; what they promise of the users and limits is looked for here.
fn units_hold(root: &Path) {
    let units = root.join("lib/systemd/system");
    let read = |name: &str| fs::read_to_string(units.join(format!("{name}.service"))).unwrap();
    for name in UNITS {
        let unit = read(name);
        assert_eq!(value(&unit, "NoNewPrivileges"), "yes", "{name}");
        assert_eq!(value(&unit, "ProtectSystem"), "strict", "{name}");
        let program = value(&unit, "ExecStart").split_whitespace().next().unwrap();
        assert!(
            root.join(program.trim_start_matches('/')).is_file(),
            "{name}: {program} is not installed"
        );
    }
    let proxy = read("maille-proxy");
    assert_eq!(value(&proxy, "User"), "maille-proxy");
    assert_eq!(
        value(&proxy, "ConditionPathExists"),
        "/etc/maille/proxy.yaml"
    );
    let seconds: u32 = value(&proxy, "TimeoutStopSec").parse().unwrap();
    // The withdrawal, the defaults of drainDelay and drainTimeout, the end of the tasks.
    assert!(seconds > 5 + 1 + 30 + 2, "{seconds} s cut a drain short");
    if !there("systemd-analyze") {
        return skipped("there is no systemd-analyze");
    }
    // Of the system's own units only those that others name are looked for.
    let system = Path::new("/lib/systemd/system");
    for entry in fs::read_dir(system).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("target" | "slice")) {
            let text = fs::read(&path).unwrap_or_default();
            fs::write(units.join(path.file_name().unwrap()), text).unwrap();
        }
    }
    for name in UNITS {
        let output = outcome(
            Command::new("systemd-analyze")
                .arg("verify")
                .arg("--man=no")
                .arg(format!("--root={}", root.display()))
                .arg(format!("{name}.service")),
        );
        let said = String::from_utf8_lossy(&output.stderr);
        // What it does not understand it says, and goes on.
        assert!(
            output.status.success() && !said.contains(name),
            "{name}: {said}"
        );
    }
}

#[test]
fn packages_install_without_starting_anything_and_purge_without_a_trace() {
    if !there("dpkg") {
        return skipped("there is no dpkg");
    }
    if !rustix::process::geteuid().is_root() {
        return skipped("packages are installed by root alone");
    }
    let directory = tempfile::tempdir().unwrap();
    let packages = build(&directory.path().join("packages"));
    let root = directory.path().join("root");
    for needed in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"] {
        fs::create_dir_all(root.join(needed)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
    fs::write(root.join("etc/shadow"), "root:*:19000:0:99999:7:::\n").unwrap();
    fs::write(root.join("etc/gshadow"), "root:*::\n").unwrap();
    // The scripts run on this host and are told by DPKG_ROOT where to work: no chroot, which would need a system inside.
    let dpkg = || {
        let mut command = Command::new("dpkg");
        command
            .arg(format!("--root={}", root.display()))
            .args(["--force-script-chrootless", "--force-depends"]);
        command
    };
    run(dpkg().arg("--install").args(packages.values()));
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
    let sidecar = format!("maille-proxy:x:{PROXY_UID}:");
    assert!(
        users.contains(&sidecar) && users.contains("\nmaille:x:"),
        "{users}"
    );
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = fs::metadata(root.join(path)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("var/lib/maille"), 0o700);
    let wanted = root.join("etc/systemd/system/multi-user.target.wants");
    let enabled = |unit: &str| wanted.join(format!("{unit}.service")).is_symlink();
    assert_eq!(UNITS.map(enabled), [true, true, false]);

    // Again, as an upgrade does: what a person has written stays.
    let options = root.join("etc/maille/init.conf");
    fs::write(&options, "MAILLE_INIT_OPTIONS=\"--dns all\"\n").unwrap();
    fs::write(root.join("etc/maille/proxy.yaml"), "workload: {}\n").unwrap();
    run(dpkg().arg("--install").args(packages.values()));
    assert!(fs::read_to_string(&options).unwrap().contains("--dns all"));

    run(dpkg().arg("--remove").args(packages.keys()));
    assert!(options.exists() && root.join("var/lib/maille").exists());
    run(dpkg().arg("--purge").args(packages.keys()));
    for gone in ["etc/maille", "var/lib/maille", "usr", "lib"] {
        assert!(!root.join(gone).exists(), "{gone} is left");
    }
    assert!(!UNITS.map(enabled).contains(&true));
}
