//! The addresses of every cluster (each is alone in its network namespace), and what its parts are told.

use std::path::Path;

use serde_json::{Value, json};

pub(super) const NODE: &str = "node1";
pub(super) const NODE_ADDRESS: &str = "10.99.0.1";
pub(super) const PODS: &str = "10.244.77.0/24";
const PODS_6: &str = "fd00:77::/64";
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The first address of it: the API server's.
pub(super) const API_SERVICE: &str = "10.96.0.1";
/// Debian's place.
const PLUGINS: &str = "/usr/lib/cni";

/// The container runtime's, in TOML.
pub(super) fn containerd(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"version = 2
root = "{directory}/containerd"
state = "/run/containerd"
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
# Whoever lacks CAP_SYS_RESOURCE cannot lower a process's score, and no sandbox would start.
restrict_oom_score_adj = true
sandbox_image = "{pause}"
netns_mounts_under_state_dir = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{PLUGINS}"
conf_dir = "{directory}/configuration/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#,
        socket = super::node::SOCKET,
        pause = super::node::PAUSE_IMAGE,
    )
}

/// The pods' network.
pub(super) fn network() -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pod",
        "plugins": [
            {
                "type": "bridge", "bridge": "pod0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": PODS}], [{"subnet": PODS_6}]],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// The kubelet's. `files` holds its certificates, `cgroup` must exist.
pub(super) fn kubelet(directory: &Path, files: &Path, cgroup: &str) -> Value {
    let room = json!({
        "memory.available": "50Mi",
        "nodefs.available": "1%",
        "imagefs.available": "1%",
        "nodefs.inodesFree": "1%",
        "imagefs.inodesFree": "1%",
    });
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", super::node::SOCKET),
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": files.join("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": files.join("kubelet.crt"),
        "tlsPrivateKeyFile": files.join("kubelet.key"),
        // From 1.35 on it refuses the first version of control groups else.
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "failSwapOn": false,
        "clusterDomain": "cluster.local",
        "clusterDNS": [NODE_ADDRESS],
        "resolvConf": directory.join("configuration/resolv.conf"),
        "evictionHard": room,
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": false,
        "volumePluginDir": directory.join("volume-plugins"),
        "nodeStatusUpdateFrequency": "4s",
        "syncFrequency": "10s",
    })
}

/// kube-proxy's.
pub(super) fn proxy(kubeconfig: &Path) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig},
        "mode": "iptables",
        "clusterCIDR": PODS,
        "hostnameOverride": NODE,
        "bindAddress": NODE_ADDRESS,
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
        "oomScoreAdj": 0,
    })
}

/// What answers names.
pub(super) fn coredns(kubeconfig: &Path) -> String {
    let kubeconfig = kubeconfig.display();
    format!(
        ".:53 {{\n  bind {NODE_ADDRESS}\n  errors\n  kubernetes cluster.local in-addr.arpa ip6.arpa {{\n    kubeconfig {kubeconfig}\n    pods insecure\n  }}\n}}\n"
    )
}
