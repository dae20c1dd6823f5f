//! Everything that ends the process, with its exit code in one place.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::identity::FirstTrustError;
use crate::peer_ca::{InitError, SecretsError};
use crate::supervise::VitalTaskEnded;
use xds_api::join_token::JoinTokenError;

/// What `--help` says about exit codes.
pub const EXIT_CODES: &str = "Exit codes:
  0  done, or stopped when told to
  1  failed while running
  2  the command line or the configuration is wrong
  3  refused: something exists already, belongs to another cluster, is in use or damaged; nothing was changed
  4  a part that the process cannot go on without has ended";

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log cannot be set up.
    #[error("cannot set up the log")]
    Log(#[from] crate::telemetry::LogError),
    /// The secrets cannot be used.
    #[error("cannot use the secrets")]
    Secrets(#[from] SecretsError),
    /// The secrets could not be fetched with the join token.
    #[error("cannot fetch the secrets with the join token")]
    FirstTrust(#[from] FirstTrustError),
    /// The join token is none.
    #[error("the join token in {path} cannot be used")]
    Token {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: JoinTokenError,
    },
    /// Kubernetes cannot be called.
    #[error("cannot watch Kubernetes")]
    Kubernetes(#[from] crate::k8s::ClientError),
    /// `init` refused.
    #[error(transparent)]
    Init(#[from] InitError),
    /// Configuration and secrets name different meshes.
    #[error(
        "the configuration's trustDomain is {configured}, but the secrets in {secrets} were made for {made}; correct the one that is wrong"
    )]
    TrustDomain {
        /// In the configuration.
        configured: String,
        /// In the secrets.
        made: String,
        /// Where those are.
        secrets: PathBuf,
    },
    /// A port cannot be had.
    #[error("cannot listen at {address} (listen.{name}); {remedy}")]
    Port {
        /// The field under `listen`.
        name: &'static str,
        /// Where.
        address: SocketAddr,
        /// What to do.
        remedy: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {path}; {remedy}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A part could not start.
    #[error("{part} could not start")]
    Start {
        /// Which part.
        part: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is on the disk cannot be used, or belongs to somebody else.
    #[error("{part} refused")]
    Refused {
        /// Which part.
        part: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A vital task ended.
    #[error(transparent)]
    Vital(#[from] VitalTaskEnded),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
    /// The runtime cannot be made.
    #[error("cannot start the threads")]
    Runtime(#[source] io::Error),
    /// Standard output is closed.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl Failure {
    /// The exit code, as `EXIT_CODES` says.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::Log(_) | Self::TrustDomain { .. } => 2,
            Self::Secrets(_)
            | Self::FirstTrust(_)
            | Self::Token { .. }
            | Self::Kubernetes(_)
            | Self::Init(_)
            | Self::Port { .. }
            | Self::Refused { .. }
            | Self::Read { .. } => 3,
            Self::Vital(_) => 4,
            Self::Start { .. } | Self::Signals(_) | Self::Runtime(_) | Self::Output(_) => 1,
        })
    }
}
