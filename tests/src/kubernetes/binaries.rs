//! Where Kubernetes' programs are: those that `KUBEBUILDER_ASSETS` names first, then what `tests/peers/fetch kubernetes` has built, then the system's.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Every program that a cluster consists of.
#[derive(Debug)]
pub(super) struct Kubernetes {
    pub(super) etcd: PathBuf,
    pub(super) apiserver: PathBuf,
    pub(super) controller_manager: PathBuf,
    pub(super) scheduler: PathBuf,
    pub(super) kubelet: PathBuf,
    pub(super) proxy: PathBuf,
    pub(super) kubectl: PathBuf,
    pub(super) coredns: PathBuf,
    pub(super) containerd: PathBuf,
    pub(super) ctr: PathBuf,
    pub(super) busybox: PathBuf,
}

impl Kubernetes {
    /// Finds them all.
    pub(super) fn find() -> anyhow::Result<Kubernetes> {
        Ok(Kubernetes {
            etcd: built("etcd")?,
            apiserver: built("kube-apiserver")?,
            controller_manager: built("kube-controller-manager")?,
            scheduler: built("kube-scheduler")?,
            kubelet: built("kubelet")?,
            proxy: built("kube-proxy")?,
            kubectl: built("kubectl")?,
            coredns: built("coredns")?,
            containerd: installed("containerd")?,
            ctr: installed("ctr")?,
            busybox: installed("busybox")?,
        })
    }
}

fn built(name: &str) -> anyhow::Result<PathBuf> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers");
    let named = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let places = named.into_iter().chain([peers.join("kubernetes"), peers]);
    let mut found = places.map(|place| place.join(name));
    let found = found.find(|path| path.is_file());
    let found = found.with_context(|| {
        format!("{name} is nowhere: run tests/peers/fetch kubernetes etcd coredns")
    })?;
    found.canonicalize().context("it was just seen")
}

fn installed(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut found = places.map(|place| place.join(name));
    match found.find(|path| path.is_file()) {
        Some(found) => Ok(found),
        None => bail!("{name} is not installed: run tests/setup kubernetes"),
    }
}
