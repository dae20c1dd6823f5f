//! A controller's configuration file: one typed value; every mistake is reported at once; the resolved value can be printed.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::telemetry::LogFormat;

mod raw;
mod resolve;

pub use resolve::resolve;

/// Ports as DESIGN's table has them.
pub mod ports {
    /// xDS, identity and registration.
    pub const XDS: u16 = 4700;
    /// Between controllers.
    pub const PEERS: u16 = 4701;
    /// The admin API.
    pub const ADMIN: u16 = 4702;
    /// Health and metrics.
    pub const HEALTH: u16 = 4704;
}

/// A checked configuration with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// This controller's name, unique in the cluster.
    pub name: String,
    /// Where log, database and snapshots live. Belongs to one controller of one cluster.
    pub data_dir: PathBuf,
    /// The directory made by `maille-controller init`.
    pub secrets: PathBuf,
    /// The mesh's SPIFFE trust domain.
    pub trust_domain: String,
    /// Where to listen, `ip:port`.
    pub listen: Listen,
    /// Where others reach this controller, `host:port`.
    pub advertise: Advertise,
    /// The root-only socket for recovery.
    pub admin_socket: PathBuf,
    /// `host:port` of the controllers' peer ports, this one's may be among them.
    pub peers: Vec<String>,
    /// How many controllers found the cluster together. 0: this one joins an existing cluster by its token.
    pub bootstrap_expect: u32,
    /// Where the token of a joining controller stands.
    pub join_token_file: Option<PathBuf>,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// Entries kept in the log behind the snapshot, for followers that lag.
    pub keep_log: u64,
    /// New connections a second at the xDS port, on the long run: their handshakes must not cost an election.
    pub accept_per_second: u32,
    /// New connections there that may come at once after a quiet time.
    pub accept_burst: u32,
    /// Streams above the controllers' mean that stay where they are.
    pub move_streams_above: u32,
    /// How often clients are asked what they counted of their calls, seconds.
    pub load_report_seconds: u64,
    /// How long a workload's certificate lives, seconds.
    pub leaf_lifetime_seconds: u64,
    /// A root brought along instead of one made at bootstrap.
    pub root: Option<RootFiles>,
    /// The Kubernetes that this cluster of controllers watches; none: there is none.
    pub kubernetes: Option<Kubernetes>,
    /// The log.
    pub log: Log,
}

/// How the API server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kubernetes {
    /// By whom; none: by the service account of the pod in which this controller runs.
    pub kubeconfig: Option<PathBuf>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listen {
    /// xDS, identity and registration.
    pub xds: std::net::SocketAddr,
    /// Other controllers.
    pub peers: std::net::SocketAddr,
    /// The admin API.
    pub admin: std::net::SocketAddr,
    /// Health and metrics.
    pub health: std::net::SocketAddr,
}

/// Where others reach this controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advertise {
    /// xDS, identity and registration.
    pub xds: String,
    /// Other controllers.
    pub peers: String,
    /// The admin API.
    pub admin: String,
}

/// A root certificate and its key, as PEM files. Only read while the cluster has no root yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key, PKCS#8, P-256.
    pub key: PathBuf,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// A level, or directives such as `info,maille_controller::raft=debug`.
    pub level: String,
    /// Text or JSON.
    #[serde(serialize_with = "format_name")]
    pub format: LogFormat,
}

fn format_name<S: serde::Serializer>(format: &LogFormat, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    })
}

/// One thing that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The field, for example `listen.xds`; empty for the file as a whole.
    pub field: String,
    /// From 1; 0 where it has no position.
    pub line: u64,
    /// What is wrong and what to do.
    pub text: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line > 0 {
            write!(out, "line {}: ", self.line)?;
        }
        if !self.field.is_empty() {
            write!(out, "{}: ", self.field)?;
        }
        out.write_str(&self.text)
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}; give its path with --config")]
    Read {
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What the file says is wrong.
    #[error("the configuration {path} has {} mistake(s):\n{}", mistakes.len(), lines(mistakes))]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them.
        mistakes: Vec<Mistake>,
    },
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes
        .iter()
        .map(|mistake| format!("  {mistake}"))
        .collect::<Vec<_>>()
        .join("\n")
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        resolve(&text).map_err(|mistakes| ConfigError::Mistakes {
            path: path.to_owned(),
            mistakes,
        })
    }

    /// The resolved value as YAML, as `check-config` prints it. Holds no secret: tokens stand in files.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self)
            .expect("a value of strings and numbers always has a YAML form")
    }
}

#[cfg(test)]
mod tests;
