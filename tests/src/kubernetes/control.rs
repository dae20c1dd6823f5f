//! The control plane: etcd, the API server, the controllers, the scheduler.

use anyhow::ensure;

use super::Kubernetes;
use super::settings::{NODE_ADDRESS, SERVICES};

const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEER: &str = "http://127.0.0.1:2380";

impl Kubernetes {
    pub(super) async fn start_control_plane(&mut self) -> anyhow::Result<()> {
        let directory = self.ground.directory().to_owned();
        let etcd = arguments(&[
            ("name", "only"),
            ("data-dir", &directory.join("etcd").to_string_lossy()),
            ("listen-client-urls", ETCD),
            ("advertise-client-urls", ETCD),
            ("listen-peer-urls", ETCD_PEER),
            ("initial-advertise-peer-urls", ETCD_PEER),
            ("initial-cluster", &format!("only={ETCD_PEER}")),
            ("unsafe-no-fsync", "true"),
        ]);
        self.part("etcd", &self.programs.etcd.clone(), &etcd)?;
        self.start_api_server()?;
        self.ready("the API server answers", async |cluster| {
            cluster.kubectl(&["get", "--raw=/readyz"]).await.map(drop)
        })
        .await?;
        let own = |name: &str| self.pki.kubeconfig(name).to_string_lossy().into_owned();
        let (manager, scheduler) = (own("controller-manager"), own("scheduler"));
        let file = |name: &str| self.pki.file(name).to_string_lossy().into_owned();
        let manager = arguments(&[
            ("kubeconfig", &manager),
            ("authentication-kubeconfig", &manager),
            ("authorization-kubeconfig", &manager),
            ("bind-address", "127.0.0.1"),
            ("leader-elect", "false"),
            ("use-service-account-credentials", "true"),
            ("root-ca-file", &file("ca.crt")),
            ("service-account-private-key-file", &file("accounts.key")),
            ("cluster-signing-cert-file", &file("ca.crt")),
            ("cluster-signing-key-file", &file("ca.key")),
            (
                "flex-volume-plugin-dir",
                &directory.join("volume-plugins").to_string_lossy(),
            ),
            // By default it paces itself so much that the first service account takes six seconds.
            ("kube-api-qps", "300"),
            ("kube-api-burst", "600"),
        ]);
        let scheduler = arguments(&[
            ("kubeconfig", &scheduler),
            ("authentication-kubeconfig", &scheduler),
            ("authorization-kubeconfig", &scheduler),
            ("bind-address", "127.0.0.1"),
            ("leader-elect", "false"),
        ]);
        let program = self.programs.controller_manager.clone();
        self.part("kube-controller-manager", &program, &manager)?;
        self.part(
            "kube-scheduler",
            &self.programs.scheduler.clone(),
            &scheduler,
        )?;
        self.ready("the default service account is there", async |cluster| {
            let asked = ["-n", "default", "get", "serviceaccount", "default"];
            cluster.kubectl(&asked).await.map(drop)
        })
        .await
    }

    /// Starts the API server, at first or after [`Kubernetes::end`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_api_server(&mut self) -> anyhow::Result<()> {
        let file = |name: &str| self.pki.file(name).to_string_lossy().into_owned();
        let api = arguments(&[
            ("bind-address", "0.0.0.0"),
            ("secure-port", "6443"),
            ("advertise-address", NODE_ADDRESS),
            ("etcd-servers", ETCD),
            ("service-cluster-ip-range", SERVICES),
            ("allow-privileged", "true"),
            ("authorization-mode", "Node,RBAC"),
            ("enable-admission-plugins", "NodeRestriction"),
            ("client-ca-file", &file("ca.crt")),
            ("tls-cert-file", &file("apiserver.crt")),
            ("tls-private-key-file", &file("apiserver.key")),
            (
                "service-account-issuer",
                "https://kubernetes.default.svc.cluster.local",
            ),
            ("service-account-key-file", &file("accounts.pub")),
            ("service-account-signing-key-file", &file("accounts.key")),
            ("requestheader-client-ca-file", &file("front.crt")),
            ("requestheader-allowed-names", "front-proxy"),
            ("requestheader-username-headers", "X-Remote-User"),
            ("requestheader-group-headers", "X-Remote-Group"),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
            ("proxy-client-cert-file", &file("front-client.crt")),
            ("proxy-client-key-file", &file("front-client.key")),
            ("kubelet-client-certificate", &file("apiserver-kubelet.crt")),
            ("kubelet-client-key", &file("apiserver-kubelet.key")),
            ("kubelet-certificate-authority", &file("ca.crt")),
            ("kubelet-preferred-address-types", "InternalIP"),
            ("profiling", "false"),
        ]);
        self.part("kube-apiserver", &self.programs.apiserver.clone(), &api)
    }

    /// Ends a part of the cluster as `kill -9` does.
    ///
    /// # Errors
    /// There is none of the name, or the system refuses.
    pub async fn end(&mut self, name: &str) -> anyhow::Result<()> {
        let found = self.parts.iter().position(|part| part.name() == name);
        ensure!(found.is_some(), "no part of the cluster is called {name}");
        match found {
            Some(at) => self.parts.remove(at).kill().await,
            None => Ok(()),
        }
    }
}

pub(super) fn arguments(all: &[(&str, &str)]) -> Vec<String> {
    all.iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}
