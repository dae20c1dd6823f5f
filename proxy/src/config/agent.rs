//! The agent's part: how an Envoy or a gRPC program that stands beside it gets its certificate and its configuration.

use super::Workload;
use super::fields::Fields;
use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What the kernel takes as the address of a Unix socket, less the zero at its end.
const SOCKET_PATH: usize = 107;
/// In the data directory.
const SOCKET: &str = "agent.sock";
/// What an abstract name begins with: it stands in no file system.
const ABSTRACT: char = '@';
/// How much of `<namespace>.<workload>` a person finds in the name; the hash behind it tells agents apart.
const READABLE: usize = 72;

/// What `maille-proxy agent` does beside what a sidecar does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// The Unix socket on which secrets and the controllers' services are reached. `@<name>` is an abstract one.
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
    /// What a sidecar's configuration holds that has no agent: a host's with several workloads.
    pub(super) fn none(data_directory: &Path) -> Self {
        Self {
            socket: data_directory.join(SOCKET),
            kind: AgentKind::Envoy,
            files: None,
        }
    }

    pub(super) fn read(
        mut fields: Fields<'_>,
        data_directory: &Path,
        workload: Option<&Workload>,
    ) -> Self {
        let kind: AgentKind = fields.text("kind").unwrap_or_default();
        let socket: Option<PathBuf> = fields.text("socket");
        let socket = socket.unwrap_or_else(|| match kind {
            AgentKind::Envoy => data_directory.join(SOCKET),
            AgentKind::Grpc => abstract_name(data_directory, workload),
        });
        for text in wrong(&socket, kind) {
            fields.problem("socket", text);
        }
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

    /// The name of the socket, where it is an abstract one.
    pub fn abstract_socket(&self) -> Option<&str> {
        self.socket.to_str()?.strip_prefix(ABSTRACT)
    }
}

/// The same for the same workload with the same directory, and for no other agent of the network namespace.
fn abstract_name(data_directory: &Path, workload: Option<&Workload>) -> PathBuf {
    let who = workload.map(|one| format!("{}.{}", one.namespace, one.name));
    // Without a workload the configuration is refused anyway.
    let who = who.unwrap_or_default();
    let place = std::path::absolute(data_directory);
    let place = place.unwrap_or_else(|_| data_directory.to_owned());
    let hash = digest(&SHA256, format!("{who}\0{}", place.display()).as_bytes());
    let hash = hex::encode(&hash.as_ref()[..8]);
    let readable = &who[..who.len().min(READABLE)];
    format!("{ABSTRACT}maille-{readable}-{hash}").into()
}

/// What is wrong with the socket of an agent of this kind.
fn wrong(socket: &Path, kind: AgentKind) -> Vec<String> {
    let mut wrong = Vec::new();
    let (shown, length) = (socket.display(), socket.as_os_str().len());
    if length > SOCKET_PATH {
        wrong.push(format!(
            "{shown}: has {length} bytes, a socket's path at most {SOCKET_PATH}"
        ));
    }
    let name = socket.to_str().and_then(|text| text.strip_prefix(ABSTRACT));
    match (kind, name) {
        (AgentKind::Envoy, Some(_)) => wrong.push(format!(
            "{shown}: an abstract socket belongs to kind grpc; name a path"
        )),
        // gRPC's C core sends the path, or the name, as HTTP/2's authority; percent signs and slashes are none.
        (AgentKind::Grpc, None) => wrong.push(format!(
            "{shown}: gRPC reaches an abstract socket only; name one as '@<name>', or leave it out"
        )),
        (AgentKind::Grpc, Some(name)) if !is_host(name) => wrong.push(format!(
            "{shown}: the name must consist of letters, digits, dots, dashes and underscores"
        )),
        _ => {}
    }
    wrong
}

fn is_host(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}
