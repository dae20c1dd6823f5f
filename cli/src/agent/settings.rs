//! What is needed of the proxy's configuration, as `maille-proxy check-config` resolves it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::failure::{Exit, Failure, Outcome};
use crate::sibling;

/// The resolved configuration, as far as it concerns what stands beside an agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// What stands behind it.
    pub workload: Workload,
    /// How the agent is reached.
    pub agent: Agent,
    /// Where the agent listens.
    pub listen: Listen,
    /// Where a join token may stand.
    pub join_token_file: Option<PathBuf>,
}

/// What tells that a file is not an agent's.
#[derive(Deserialize)]
struct Shape {
    workloads: Option<serde::de::IgnoredAny>,
}

/// Who it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Workload {
    pub namespace: String,
    pub name: String,
    /// `<region>/<zone>`, may be empty.
    pub locality: String,
}

/// The agent's part.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Agent {
    /// A path, or `@` and the name of an abstract socket.
    pub socket: PathBuf,
    pub kind: Kind,
    /// Where a gRPC program finds its certificate.
    pub files: Option<PathBuf>,
}

impl Agent {
    /// The name of the socket, where it is an abstract one.
    pub fn abstract_socket(&self) -> Option<&str> {
        self.socket.to_str()?.strip_prefix('@')
    }
}

/// What stands beside an agent.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Envoy,
    Grpc,
}

impl Kind {
    /// As the configuration names it.
    fn name(self) -> &'static str {
        match self {
            Kind::Envoy => "envoy",
            Kind::Grpc => "grpc",
        }
    }
}

/// Addresses.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Listen {
    pub admin: String,
}

impl Settings {
    /// Has the configuration read and resolved.
    ///
    /// # Errors
    /// It cannot be used, or is for another kind.
    pub async fn load(config: &Path, kind: Kind) -> Outcome<Settings> {
        let doing = || format!("read {}", config.display());
        let checked = Command::new(sibling::binary("maille-proxy")?)
            .args(["check-config", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| Failure::failed("start maille-proxy").caused_by(error))?;
        if !checked.status.success() {
            let said = String::from_utf8_lossy(&checked.stderr);
            let message = format!("{}: {}", doing(), said.trim());
            return Err(Failure::new(Exit::Refused, message));
        }
        Settings::read(&String::from_utf8_lossy(&checked.stdout), config, kind)
    }

    /// Reads what `check-config` prints.
    fn read(text: &str, config: &Path, wanted: Kind) -> Outcome<Settings> {
        let shape: Shape = resolved(text)?;
        if shape.workloads.is_some() {
            let config = config.display();
            let message = format!("{config}: workloads: only a sidecar stands beside several");
            let next = "give each Envoy and each gRPC program a file of its own, with workload";
            return Err(Failure::new(Exit::Refused, message).next(next));
        }
        let mut settings: Settings = resolved(text)?;
        if settings.agent.kind != wanted {
            let (kind, wanted) = (settings.agent.kind.name(), wanted.name());
            let message = format!("{}: agent.kind is {kind}, not {wanted}", config.display());
            return Err(Failure::new(Exit::Refused, message));
        }
        // What reads them may run in another directory than the agent.
        if settings.agent.abstract_socket().is_none() {
            settings.agent.socket = absolute("agent.socket", &settings.agent.socket)?;
        }
        if let Some(files) = &mut settings.agent.files {
            *files = absolute("agent.files", files)?;
        }
        Ok(settings)
    }

    /// The node that a client of xDS says it is: as the sidecar says it.
    pub fn node(&self, service_account: &str) -> Value {
        let workload = &self.workload;
        let mut node = json!({
            "id": format!("{}/{}", workload.namespace, workload.name),
            "cluster": service_account,
        });
        let locality = workload.locality.as_str();
        let (region, zone) = locality.split_once('/').unwrap_or((locality, ""));
        if !locality.is_empty() {
            node["locality"] = json!({"region": region, "zone": zone});
        }
        node
    }
}

fn resolved<T: serde::de::DeserializeOwned>(text: &str) -> Outcome<T> {
    serde_saphyr::from_str(text).map_err(|error| {
        Failure::failed("read what maille-proxy check-config prints")
            .caused_by(error)
            .next("is maille-proxy of the same version as this program?")
    })
}

fn absolute(what: &str, path: &Path) -> Outcome<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Failure::failed(format!("find the directory that {what} is in")).caused_by(error)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) const RESOLVED: &str = "
controllers: [c1:4700]
joinTokenFile: /etc/maille/token
dataDir: /data
trustDomain: null
workload: {namespace: shop, name: web-1, labels: {}, addresses: ['10.0.0.1'], locality: eu/a, ports: []}
listen: {outbound: [], mesh: ['0.0.0.0:4743'], dns: [], admin: 127.0.0.1:4790, metrics: []}
agent: {socket: /data/agent.sock, kind: envoy, files: null}
";

    pub(crate) fn settings() -> Settings {
        Settings::read(RESOLVED, Path::new("web.yaml"), Kind::Envoy).unwrap()
    }

    pub(crate) fn for_grpc() -> Settings {
        let text = RESOLVED.replace("kind: envoy, files: null", "kind: grpc, files: /data/files");
        let text = text.replace("/data/agent.sock", "'@maille-shop.web-1-00'");
        Settings::read(&text, Path::new("web.yaml"), Kind::Grpc).unwrap()
    }

    #[test]
    fn a_resolved_configuration_is_read() {
        let settings = settings();
        assert_eq!(settings.workload.locality, "eu/a");
        assert_eq!(settings.agent.socket, Path::new("/data/agent.sock"));
        assert_eq!(settings.listen.admin, "127.0.0.1:4790");
    }

    #[test]
    fn a_configuration_for_another_kind_is_refused() {
        let grpc = RESOLVED.replace("kind: envoy", "kind: grpc");
        let refused = Settings::read(&grpc, Path::new("web.yaml"), Kind::Envoy).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "web.yaml: agent.kind is grpc, not envoy"
        );
        assert_eq!(refused.exit(), Exit::Refused);
    }

    #[test]
    fn a_host_of_several_workloads_is_no_agents() {
        let several = "controllers: [c1:4700]\nworkloads: [{namespace: shop, name: a}]\n";
        let refused = Settings::read(several, Path::new("host.yaml"), Kind::Envoy).unwrap_err();
        let said = refused.to_string();
        let what = "host.yaml: workloads: only a sidecar stands beside several";
        assert!(said.starts_with(what), "{said}");
        assert_eq!(refused.exit(), Exit::Refused);
    }
}
