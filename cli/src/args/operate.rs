//! Command lines for those who run the mesh: `status`, `check`, `members`, `token`, `ca`, `proxies`, `proxy`, `snapshot`, and the small ones.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `maille check`
#[derive(Args, Debug)]
pub struct Check {}

/// `maille status`
#[derive(Args, Debug)]
pub struct Status {}

/// `maille members`
#[derive(Args, Debug)]
pub struct Members {
    #[command(subcommand)]
    pub action: Option<MembersAction>,
}

/// What to do with members; without a word they are listed.
#[derive(Debug, Subcommand)]
pub enum MembersAction {
    /// Lists the controllers: role, addresses, how far each is.
    List,
    /// Removes a controller for good. Refused where the rest would have no quorum.
    Remove {
        /// Its name or id.
        member: String,
    },
    /// Hands leadership to another voter and waits until it leads.
    Transfer {
        /// Its name or id; without it, the voter that is furthest along.
        #[arg(default_value = "", hide_default_value = true)]
        member: String,
    },
}

/// `maille token`
#[derive(Args, Debug)]
pub struct Token {
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Makes a token for one join. Its secret is shown this once.
    Create(TokenCreate),
    /// Lists the tokens, without their secrets.
    List,
    /// Withdraws a token that is not used yet.
    Revoke {
        /// The token's id, as `list` shows it.
        id: String,
    },
}

/// `maille token create`
#[derive(Args, Debug)]
pub struct TokenCreate {
    /// For a controller that joins the cluster, instead of a workload.
    #[arg(long, conflicts_with_all = ["namespace", "service_account"])]
    pub controller: bool,
    /// The workload's namespace.
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    pub namespace: String,
    /// The service account: the token grants exactly spiffe://<trust domain>/ns/<namespace>/sa/<service account>.
    #[arg(
        short,
        long,
        value_name = "NAME",
        required_unless_present = "controller"
    )]
    pub service_account: Option<String>,
    /// How long it can be used, in seconds; 0 is the controller's default of one hour.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub lifetime: u32,
}

/// `maille ca`
#[derive(Args, Debug)]
pub struct Ca {
    #[command(subcommand)]
    pub action: CaAction,
}

/// What to show of the certificate authority.
#[derive(Debug, Subcommand)]
pub enum CaAction {
    /// Shows the roots and the issuing certificates.
    Roots {
        /// Prints the roots as PEM instead.
        #[arg(long)]
        pem: bool,
    },
    /// Shows the issuance log: every certificate that was ever issued.
    Log {
        /// From this record's number on.
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        from: u64,
        /// Only this identity.
        #[arg(
            long,
            default_value = "",
            hide_default_value = true,
            value_name = "SPIFFE ID"
        )]
        identity: String,
    },
    /// Recomputes the issuance log's hash chain and compares its head with the agreed one.
    Verify,
}

/// `maille proxies`
#[derive(Args, Debug)]
pub struct Proxies {
    /// Shows instead what this client was sent and what it said to it, resource by resource: ACKED, NACKED with the client's words, REQUESTED (no answer yet),
    /// DOES_NOT_EXIST. Every controller is asked; `-o json` has the resources themselves, as far as the mesh has not moved on since. The controllers serve the
    /// same as CSDS (`envoy.service.status.v3`) at their admin port and socket.
    #[arg(long, value_name = "NAMESPACE/WORKLOAD")]
    pub config: Option<String>,
}

/// `maille proxy`
#[derive(Args, Debug)]
pub struct Proxy {
    /// The sidecar's admin address. It is on the loopback of the sidecar's host (or network namespace).
    #[arg(
        long,
        default_value = "127.0.0.1:4790",
        global = true,
        value_name = "HOST:PORT"
    )]
    pub address: String,
    #[command(subcommand)]
    pub action: ProxyAction,
}

/// What to ask a sidecar.
#[derive(Debug, Subcommand)]
pub enum ProxyAction {
    /// Shows what the control plane has told it.
    Config,
    /// Shows its identity, what it waits for, its controller, and the mesh index that it has.
    Status,
    /// Shows its metrics, in Prometheus' text form.
    Metrics,
    /// Shows its log filter, or sets it until the next restart.
    LogLevel {
        /// A level (`info`) or a filter (`info,maille_proxy::xds=debug`).
        filter: Option<String>,
    },
}

/// `maille snapshot`
#[derive(Args, Debug)]
pub struct Snapshot {
    #[command(subcommand)]
    pub action: SnapshotAction,
}

/// What to do with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotAction {
    /// Saves a consistent snapshot of the mesh to a file. Keys in it are sealed.
    Save {
        /// The file; must not exist yet.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Shows what a snapshot file holds, and whether it is whole. Needs no controller.
    Inspect {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Prepares a controller's empty data directory from a snapshot: the first member of a new cluster.
    Restore {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The configuration of the controller that will start from it.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// `maille completions`
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `maille version`
#[derive(Args, Debug)]
pub struct Version {
    /// Shows only this program's version and asks no controller.
    #[arg(long)]
    pub client: bool,
}
