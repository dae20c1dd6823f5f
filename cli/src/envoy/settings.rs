//! What is needed of the proxy's configuration, as `maille-proxy check-config` resolves it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

use crate::failure::{Exit, Failure, Outcome};
use crate::sibling;

/// The resolved configuration, as far as it concerns an Envoy.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// What stands behind the Envoy.
    pub workload: Workload,
    /// How the agent is reached.
    pub agent: Agent,
    /// Where the agent listens.
    pub listen: Listen,
    /// Where a join token may stand.
    pub join_token_file: Option<PathBuf>,
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
    pub socket: PathBuf,
    pub kind: String,
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
    /// It cannot be used, or is not for an Envoy.
    pub async fn load(config: &Path) -> Outcome<Settings> {
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
        Settings::read(&String::from_utf8_lossy(&checked.stdout), config)
    }

    /// Reads what `check-config` prints.
    fn read(text: &str, config: &Path) -> Outcome<Settings> {
        let mut settings: Settings = serde_saphyr::from_str(text).map_err(|error| {
            Failure::failed("read what maille-proxy check-config prints")
                .caused_by(error)
                .next("is maille-proxy of the same version as this program?")
        })?;
        if settings.agent.kind != "envoy" {
            let kind = &settings.agent.kind;
            let message = format!("{}: agent.kind is {kind}, not envoy", config.display());
            return Err(Failure::new(Exit::Refused, message));
        }
        // Envoy may run in another directory than the agent.
        settings.agent.socket = std::path::absolute(&settings.agent.socket).map_err(|error| {
            Failure::failed("find the directory that agent.socket is in").caused_by(error)
        })?;
        Ok(settings)
    }
}

#[cfg(test)]
pub(super) mod tests {
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
        Settings::read(RESOLVED, Path::new("web.yaml")).unwrap()
    }

    #[test]
    fn a_resolved_configuration_is_read() {
        let settings = settings();
        assert_eq!(settings.workload.locality, "eu/a");
        assert_eq!(settings.agent.socket, Path::new("/data/agent.sock"));
        assert_eq!(settings.listen.admin, "127.0.0.1:4790");
    }

    #[test]
    fn a_configuration_for_grpc_is_refused() {
        let grpc = RESOLVED.replace("kind: envoy", "kind: grpc");
        let refused = Settings::read(&grpc, Path::new("web.yaml")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "web.yaml: agent.kind is grpc, not envoy"
        );
        assert_eq!(refused.exit(), Exit::Refused);
    }
}
