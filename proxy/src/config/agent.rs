//! The agent's part: how an Envoy or a gRPC program that stands beside it gets its certificate and its configuration.

use super::fields::Fields;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What the kernel takes as the address of a Unix socket, less the zero at its end.
const SOCKET_PATH: usize = 107;

/// What `maille-proxy agent` does beside what a sidecar does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// The Unix socket on which secrets and the controllers' services are reached.
    pub socket: PathBuf,
    /// What stands beside it.
    pub kind: AgentKind,
    /// Where key, certificate and roots are kept as files. None: nowhere.
    pub files: Option<PathBuf>,
}

/// What an agent stands beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentKind {
    /// An Envoy: it takes its certificate from the socket.
    #[default]
    Envoy,
    /// A program with gRPC's xDS in it: it takes its certificate from files.
    Grpc,
}

impl FromStr for AgentKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "envoy" => Ok(Self::Envoy),
            "grpc" => Ok(Self::Grpc),
            _ => Err("must be envoy or grpc"),
        }
    }
}

impl Agent {
    pub(super) fn read(mut fields: Fields<'_>, data_directory: &Path) -> Self {
        let socket: Option<PathBuf> = fields.text("socket");
        let socket = socket.unwrap_or_else(|| data_directory.join("agent.sock"));
        let length = socket.as_os_str().len();
        if length > SOCKET_PATH {
            let path = socket.display();
            let text = format!("{path}: has {length} bytes, a socket's path at most {SOCKET_PATH}");
            fields.problem("socket", text);
        }
        let kind: AgentKind = fields.text("kind").unwrap_or_default();
        let files: Option<PathBuf> = fields.text("files");
        if files.is_some() && kind == AgentKind::Envoy {
            let text = "belongs to kind grpc; Envoy takes its certificate from the socket";
            fields.problem("files", text);
        }
        let grpc = kind == AgentKind::Grpc;
        let default = || grpc.then(|| data_directory.join("certificates"));
        fields.finish();
        Self {
            socket,
            kind,
            files: files.or_else(default),
        }
    }
}
