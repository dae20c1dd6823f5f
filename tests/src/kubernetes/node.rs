//! The node: containerd, the kubelet, kube-proxy, and CoreDNS at its address.

use std::path::Path;

use anyhow::ensure;

use super::Kubernetes;
use super::control::arguments;
use super::image::Image;
use super::settings::{self, NODE, NODE_ADDRESS};

/// In the cluster's own `/run`.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
pub(super) const PAUSE_IMAGE: &str = "localhost/pause:1";
/// What the tests' own pods run: busybox.
const BASE_IMAGE: &str = "localhost/busybox:1";

impl Kubernetes {
    /// The container runtime, with the images that every cluster has.
    pub(super) async fn start_containers(&mut self) -> anyhow::Result<()> {
        let directory = self.ground.directory().to_owned();
        let configuration = directory.join("configuration");
        let file = configuration.join("containerd.toml");
        std::fs::write(&file, settings::containerd(&directory))?;
        std::fs::create_dir_all(configuration.join("cni"))?;
        let network = settings::network().to_string();
        std::fs::write(configuration.join("cni/10-pod.conflist"), network)?;
        let told = ["--config".to_owned(), file.to_string_lossy().into_owned()];
        self.part("containerd", &self.programs.containerd.clone(), &told)?;
        let images = directory.join("images");
        let busybox = &self.programs.busybox;
        let pause = Image::new(PAUSE_IMAGE, &["/busybox", "sleep", "2147483647"])
            .file(busybox, "busybox")
            .archive(&images)?;
        let base = Image::new(BASE_IMAGE, &["/bin/sh"])
            .busybox(busybox)?
            .archive(&images)?;
        self.ready("containerd answers", async |cluster| {
            let asked = ["-a", SOCKET, "version"];
            let done = cluster.on_node(&cluster.programs.ctr, &asked).await?;
            ensure!(done.code == Some(0), "{}", done.err);
            Ok(())
        })
        .await?;
        self.load(&pause).await?;
        self.load(&base).await
    }

    /// The kubelet, until its node is ready; then what makes services reachable by address and by name.
    pub(super) async fn start_node(&mut self) -> anyhow::Result<()> {
        let directory = self.ground.directory().to_owned();
        let configuration = directory.join("configuration");
        // An empty one would be filled with the machine's own.
        let resolver = format!("nameserver {NODE_ADDRESS}\n");
        std::fs::write(configuration.join("resolv.conf"), resolver)?;
        let told = settings::kubelet(&directory, self.pki.directory(), &self.ground.cgroup());
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let file = configuration.join("kubelet.json");
        std::fs::write(&file, told.to_string())?;
        let kubelet = arguments(&[
            ("config", &text(&file)),
            ("kubeconfig", &text(&self.pki.kubeconfig("node"))),
            ("root-dir", &text(&directory.join("kubelet"))),
            ("hostname-override", NODE),
            ("node-ip", NODE_ADDRESS),
        ]);
        self.part("kubelet", &self.programs.kubelet.clone(), &kubelet)?;
        let file = configuration.join("proxy.json");
        let told = settings::proxy(&self.pki.kubeconfig("proxy"));
        std::fs::write(&file, told.to_string())?;
        let proxy = arguments(&[("config", &text(&file))]);
        self.part("kube-proxy", &self.programs.proxy.clone(), &proxy)?;
        let file = configuration.join("Corefile");
        std::fs::write(&file, settings::coredns(&self.pki.kubeconfig("admin")))?;
        let names = ["-conf".to_owned(), text(&file)];
        self.part("coredns", &self.programs.coredns.clone(), &names)?;
        self.ready("the node is ready", async |cluster| {
            let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            let said = cluster
                .kubectl(&["get", "node", NODE, "-o", condition])
                .await?;
            ensure!(said == "True", "the node's condition is {said:?}");
            Ok(())
        })
        .await
    }
}
