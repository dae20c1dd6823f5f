//! The bootstrap of a gRPC program: its configuration comes through the agent's socket, its certificate from the agent's files. Pure.

use std::path::Path;

use serde_json::{Value, json};

use crate::agent::settings::Settings;

/// What the control plane calls the agent's files.
const PROVIDER: &str = "maille";
/// How often the program looks whether they have changed. A leaf is renewed hours before it ends.
const REFRESH: &str = "10s";

/// What `GRPC_XDS_BOOTSTRAP` names; `files`: the directory with certificate, key and roots.
pub fn bootstrap(settings: &Settings, files: &Path, service_account: &str) -> Value {
    let workload = &settings.workload;
    let server = match settings.agent.abstract_socket() {
        Some(name) => format!("unix-abstract:{name}"),
        None => format!("unix:{}", settings.agent.socket.display()),
    };
    json!({
        "xds_servers": [{
            "server_uri": server,
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": settings.node(service_account),
        "certificate_providers": {
            PROVIDER: {
                "plugin_name": "file_watcher",
                "config": {
                    "certificate_file": files.join("certificate.pem"),
                    "private_key_file": files.join("key.pem"),
                    "ca_certificate_file": files.join("roots.pem"),
                    "refresh_interval": REFRESH,
                },
            },
        },
        "server_listener_resource_name_template":
            format!("serve/{}/{}/%s", workload.namespace, workload.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::settings::tests::for_grpc;

    #[test]
    fn everything_comes_from_the_agent() {
        let files = Path::new("/data/files");
        insta::assert_json_snapshot!(bootstrap(&for_grpc(), files, "web"));
    }
}
