//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Maille's control plane: a Raft cluster that agrees on the mesh, holds the CA key sealed, and serves xDS.
#[derive(Debug, Parser)]
#[command(name = "maille-controller", version, after_help = super::EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs a controller until SIGTERM or SIGINT; it hands leadership over first. A second signal ends it at once
    Run(WithConfig),
    /// Makes a cluster's secrets and its first administrator's certificate, once; copy the secrets to each controller's host
    Init(Init),
    /// Makes one more administrator's certificate from existing secrets
    AdminCertificate(AdminCertificate),
    /// Makes the data directory of a new cluster's first controller from a snapshot
    Restore(Restore),
    /// Looks into a snapshot file
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },
    /// Checks a configuration file and prints what it resolves to
    CheckConfig(WithConfig),
    /// Prints the version
    Version,
}

#[derive(Debug, Args)]
pub(super) struct WithConfig {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The directory to make for the secrets: the peers' CA and the key-encryption key
    #[arg(long, value_name = "DIR")]
    pub(super) secrets: PathBuf,
    /// The mesh's SPIFFE trust domain; it stands in every identity and never changes
    #[arg(long, value_name = "DOMAIN")]
    pub(super) trust_domain: String,
    #[command(flatten)]
    pub(super) admin: Admin,
    /// The secrets of the cluster whose snapshot is to be restored: its key-encryption key is kept, without which the
    /// snapshot's root key can never be opened
    #[arg(long, value_name = "DIR")]
    pub(super) keep_kek_of: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct AdminCertificate {
    /// The secrets directory
    #[arg(long, value_name = "DIR")]
    pub(super) secrets: PathBuf,
    #[command(flatten)]
    pub(super) admin: Admin,
    /// What its holder may do: `viewer` looks, `editor` also writes the mesh's objects and makes join tokens of workloads, `admin` may do everything
    #[arg(long, value_name = "ROLE", default_value = "admin")]
    pub(super) role: RoleName,
    /// Only in this namespace; may be given several times. Not with `admin`
    #[arg(long, value_name = "NAMESPACE")]
    pub(super) namespace: Vec<String>,
}

/// A role, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleName {
    Viewer,
    Editor,
    Admin,
}

#[derive(Debug, Args)]
pub(super) struct Admin {
    /// The directory to make for the administrator: client.crt, client.key, ca.crt, endpoints; `maille --admin DIR` uses it
    #[arg(long, value_name = "DIR")]
    pub(super) admin_dir: PathBuf,
    /// The administrator's name, recorded with every write
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub(super) admin_name: String,
    /// A controller's admin port, for the file `endpoints`; may be given several times
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:4702")]
    pub(super) endpoint: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The new cluster's configuration; its dataDir must not exist yet, or be empty
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// The snapshot, as `maille snapshot save` wrote it
    #[arg(long, value_name = "FILE")]
    pub(super) snapshot: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum SnapshotCommand {
    /// Verifies a snapshot file and says what is in it
    Inspect {
        /// The file
        file: PathBuf,
        /// For people or for programs
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}
