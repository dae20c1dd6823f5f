//! A whole Kubernetes of one node, with a real kubelet and real pods, in namespaces of its own: nothing of it is seen outside, and nothing is left of it.

mod binaries;

mod ground;

mod pki;

mod settings;

mod image;

mod control;

mod node;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::process::{self, Finished, Process};
use crate::wait;

pub use image::Image;

use binaries::Kubernetes as Programs;
use ground::Ground;
use pki::Pki;

/// One call of kubectl.
const CALL_LIMIT: Duration = Duration::from_secs(120);
/// From the start of one part to its being ready.
const PART_LIMIT: Duration = Duration::from_secs(120);

/// The cluster. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Kubernetes {
    /// By name, so that a test can stop one of them.
    parts: Vec<Process>,
    ground: Ground,
    programs: Programs,
    pki: Pki,
}

impl Kubernetes {
    /// Brings a cluster up and runs a test on its node: what the test opens and starts is in the cluster's network. The images of the tests' own pods
    /// are there.
    ///
    /// # Errors
    /// A part of the cluster does not become ready, or the test fails.
    pub fn with<F>(test: F) -> anyhow::Result<()>
    where
        F: AsyncFnOnce(&mut Kubernetes) -> anyhow::Result<()> + Send,
    {
        // One at a time: two of them would wait for each other's processors longer than their parts are waited for.
        static ONE: Mutex<()> = Mutex::new(());
        let _only = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let programs = Programs::find()?;
        let ground = Ground::make()?;
        let network = ground.network()?;
        let run = || {
            network.enter()?;
            let entered = network.try_clone()?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .on_thread_start(move || entered.enter().expect("the namespace is held open"))
                .build()?;
            runtime.block_on(async {
                let mut cluster = Kubernetes::start(programs, ground).await?;
                test(&mut cluster).await
            })
        };
        // A thread's network is its own: whoever called stays where it was.
        std::thread::scope(|scope| scope.spawn(run).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Brings it up: control plane, node, service addresses, names.
    async fn start(programs: Programs, ground: Ground) -> anyhow::Result<Kubernetes> {
        let pki = Pki::make(&ground.directory().join("pki"))?;
        let mut cluster = Kubernetes {
            parts: Vec::new(),
            ground,
            programs,
            pki,
        };
        cluster.start_containers().await?;
        cluster.start_control_plane().await?;
        cluster.start_node().await?;
        Ok(cluster)
    }

    /// Starts a part of it inside its namespaces.
    fn part(&mut self, name: &str, program: &Path, arguments: &[String]) -> anyhow::Result<()> {
        let (enter, mut all) = self.ground.entered(program);
        all.extend(arguments.iter().map(Into::into));
        let logs = self.ground.directory().join("log");
        self.parts.push(Process::start(name, &logs, &enter, &all)?);
        Ok(())
    }

    /// Waits until a look succeeds; an error where a part has ended meanwhile.
    async fn ready(
        &mut self,
        what: &str,
        mut look: impl AsyncFnMut(&Kubernetes) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let waited = wait::until(what, PART_LIMIT, async || look(self).await).await;
        for part in &mut self.parts {
            part.alive()?;
        }
        let tails = || self.parts.iter().map(Process::tail).collect::<Vec<_>>();
        waited.with_context(|| tails().join("\n"))
    }

    /// A part of the cluster, by its program's name: `etcd`, `kube-apiserver`, `kubelet` …
    ///
    /// # Errors
    /// There is none of the name.
    pub fn process(&self, name: &str) -> anyhow::Result<&Process> {
        let found = self.parts.iter().find(|part| part.name() == name);
        found.with_context(|| format!("no part of the cluster is called {name}"))
    }

    /// Where it keeps all that it keeps; gone with the cluster.
    pub fn directory(&self) -> &Path {
        self.ground.directory()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.kubeconfig("admin")
    }

    /// Runs a program on the node: in its network and with its file systems.
    ///
    /// # Errors
    /// It cannot be started, or hangs.
    pub async fn on_node(&self, program: &Path, arguments: &[&str]) -> anyhow::Result<Finished> {
        let (enter, mut all) = self.ground.entered(program);
        all.extend(arguments.iter().map(Into::into));
        process::run(&enter, &all, CALL_LIMIT).await
    }

    /// Runs kubectl as the administrator; answers what it printed.
    ///
    /// # Errors
    /// It fails; the error is its own.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        let mut all = vec![kubeconfig.as_str()];
        all.extend(arguments);
        let done = self.on_node(&self.programs.kubectl, &all).await?;
        ensure!(
            done.code == Some(0),
            "kubectl {}: {}",
            arguments.join(" "),
            done.err
        );
        Ok(done.out)
    }

    /// A client of its API, as the administrator.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        let file = kube::config::Kubeconfig::read_from(self.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// They are refused.
    pub async fn apply(&self, manifests: &str) -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new_in(self.directory())?;
        std::fs::write(file.path(), manifests)?;
        let path = file.path().to_string_lossy().into_owned();
        self.kubectl(&["apply", "-f", &path]).await.map(drop)
    }

    /// Brings an image to the node.
    ///
    /// # Errors
    /// The container runtime refuses it.
    pub async fn load(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.to_string_lossy();
        let arguments = [
            "-a",
            node::SOCKET,
            "-n",
            "k8s.io",
            "images",
            "import",
            &archive,
        ];
        let done = self.on_node(&self.programs.ctr, &arguments).await?;
        ensure!(done.code == Some(0), "importing {archive}: {}", done.err);
        Ok(())
    }
}
