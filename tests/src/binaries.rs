//! The product's binaries. `cargo test` does not build those of sibling packages, so they are built here, once a process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the controller of the next feature level is called here.
const NEXT: &str = "maille-controller-next";

/// The four binaries.
#[derive(Debug)]
pub struct Binaries {
    directory: PathBuf,
    envoy: PathBuf,
}

impl Binaries {
    /// Builds what is not up to date (cargo's own lock lets one process at a time build) and answers where it is.
    ///
    /// # Panics
    /// Where they cannot be built: no test can go on.
    pub fn get() -> &'static Binaries {
        static BUILT: OnceLock<Binaries> = OnceLock::new();
        BUILT.get_or_init(|| {
            let own = std::env::current_exe().expect("a running program has a path");
            // target/<triple>/<profile>/deps/<test>
            let directory = own
                .ancestors()
                .nth(2)
                .expect("cargo puts tests two levels deep")
                .to_owned();
            build(&directory);
            Binaries {
                envoy: envoy(),
                directory,
            }
        })
    }

    /// `maille-controller`.
    pub fn controller(&self) -> PathBuf {
        self.directory.join("maille-controller")
    }

    /// `maille-controller` of the next feature level.
    pub fn next_controller(&self) -> PathBuf {
        self.directory.join(NEXT)
    }

    /// `maille-proxy`.
    pub fn proxy(&self) -> PathBuf {
        self.directory.join("maille-proxy")
    }

    /// `maille-init`.
    pub fn init(&self) -> PathBuf {
        self.directory.join("maille-init")
    }

    /// `maille`.
    pub fn cli(&self) -> PathBuf {
        self.directory.join("maille")
    }

    /// Envoy 1.40, as `tests/peers/fetch envoy` brings it.
    ///
    /// # Panics
    /// Where it is not there: no test of it can go on.
    pub fn envoy(&self) -> PathBuf {
        let path = &self.envoy;
        assert!(
            path.exists(),
            "{} is not there; run tests/peers/fetch envoy",
            path.display()
        );
        path.clone()
    }

    /// A program with gRPC's xDS in it: what is started, and the first arguments.
    ///
    /// # Panics
    /// Where it is not there: no test of it can go on.
    pub fn grpc(&self, library: Grpc) -> (PathBuf, Vec<OsString>) {
        let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let peers = crate_root.join("../target/peers");
        let (program, arguments, fetched) = match library {
            Grpc::C => {
                let peer = crate_root.join("peers/grpc/peer.py");
                let python = peers.join("grpc-venv/bin/python");
                (python, vec![peer.into()], "grpc")
            }
            Grpc::Go => (peers.join("grpc-go"), Vec::new(), "grpc-go"),
        };
        assert!(
            program.exists(),
            "{} is not there; run tests/peers/fetch {fetched}",
            program.display()
        );
        (program, arguments)
    }
}

/// A library of gRPC's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grpc {
    /// The C core, from Python.
    C,
    /// grpc-go.
    Go,
}

/// What the environment says, else where the repository keeps it.
fn envoy() -> PathBuf {
    let said = std::env::var_os("ENVOY").map(PathBuf::from);
    said.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/envoy"))
}

/// Builds the controller of the next level first, and sets it aside: cargo gives both the same name.
fn build(directory: &Path) {
    let release = directory.ends_with("release");
    if !release {
        cargo(&["--examples", "--features", "maille-controller/next-level"]);
        // Another process of the tests may run what is there: it keeps its file, and the newcomer has another.
        let fresh = directory.join(format!("{NEXT}.{}", std::process::id()));
        std::fs::copy(directory.join("maille-controller"), &fresh)
            .and_then(|_| std::fs::rename(&fresh, directory.join(NEXT)))
            .expect("cargo has built it, and the directory is ours");
    }
    cargo(if release {
        &["--release"]
    } else {
        &["--examples"]
    });
}

/// The whole workspace, as the Makefile does: features are unified alike, so nothing is compiled twice.
fn cargo(arguments: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace");
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bins"])
        .args(arguments)
        .current_dir(root)
        .status()
        .expect("cargo runs, for it has run this test");
    assert!(
        status.success(),
        "the binaries could not be built: {status}"
    );
}
