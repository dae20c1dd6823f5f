//! Command lines about the mesh's objects: `apply`, `get`, `delete`, `routes`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use xds_api::generated::maille::v1 as api;

/// Which namespace is meant.
#[derive(Args, Clone, Debug)]
pub struct Scope {
    /// The namespace.
    #[arg(
        short,
        long,
        default_value = "default",
        value_name = "NAME",
        conflicts_with = "all_namespaces"
    )]
    pub namespace: String,
    /// Every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Freshness {
    /// Confirmed by the leader's lease.
    #[default]
    Default,
    /// Confirmed by a round to a quorum.
    Consistent,
    /// Whatever the asked controller has; its age is told.
    Stale,
}

impl Freshness {
    /// The same on the wire.
    pub fn to_wire(self) -> api::Consistency {
        match self {
            Freshness::Default => api::Consistency::Default,
            Freshness::Consistent => api::Consistency::Consistent,
            Freshness::Stale => api::Consistency::Stale,
        }
    }
}

/// `maille apply`
#[derive(Args, Debug)]
pub struct Apply {
    /// A file, a folder (its *.yaml, *.yml and *.json, sorted by name), or `-` for standard input. May be given several times.
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Checks everything and says what would be done, and writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Rolls the change out: to these shares of the clients that it concerns, one after the other, each once all of the share before have acknowledged it.
    /// Where one refuses it, or is behind when the time of --wait (60s) is up, what was begun is taken back. The last share is 100%.
    #[arg(long, value_name = "SHARES", value_delimiter = ',', value_parser = share, conflicts_with = "dry_run")]
    pub staged: Vec<u32>,
    #[command(flatten)]
    pub wait: Wait,
}

/// `maille diff`
#[derive(Args, Debug)]
pub struct Diff {
    /// A file, a folder (its *.yaml, *.yml and *.json, sorted by name), or `-` for standard input. May be given several times.
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `maille rollout`
#[derive(Args, Debug)]
pub struct Rollout {
    #[command(subcommand)]
    pub command: Option<RolloutCommand>,
}

/// What is done with the rollout that is under way; without one it is shown.
#[derive(Subcommand, Debug)]
pub enum RolloutCommand {
    /// Brings it to all clients.
    Finish(Wait),
    /// Takes it back.
    Abort(Wait),
}

/// Whether a write is done when it is agreed, or when it is live.
#[derive(Args, Clone, Copy, Debug)]
pub struct Wait {
    /// Waits until every live proxy has acknowledged the change; fails with the text of a refusal, or with the names of those that are behind
    /// when the time is up. A change is in force all the same. TIMEOUT is a number with s, m or h.
    #[arg(long, value_name = "TIMEOUT", num_args = 0..=1, require_equals = true, default_missing_value = "60s", value_parser = span)]
    pub wait: Option<Duration>,
}

/// Reads `10%`.
fn share(text: &str) -> Result<u32, String> {
    let number = text
        .strip_suffix('%')
        .and_then(|digits| digits.parse().ok());
    match number {
        Some(share) if (1..=100).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is no share: write 1% to 100%")),
    }
}

/// Reads `90s`, `2m` or `1h`.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write a number with s, m or h, such as 90s");
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let factor = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match number.checked_mul(factor) {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong()),
    }
}

/// `maille get`
#[derive(Args, Debug)]
pub struct Get {
    /// The kind in any usual form (`service`, `services`, `svc`), or `all`.
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// One object; without it, all.
    #[arg(value_name = "NAME", default_value = "", hide_default_value = true)]
    pub name: String,
    #[command(flatten)]
    pub scope: Scope,
    /// How fresh the answer must be.
    #[arg(long, value_enum, default_value_t)]
    pub consistency: Freshness,
}

/// `maille delete`
#[derive(Args, Debug)]
pub struct Delete {
    /// The kind.
    #[arg(
        value_name = "KIND",
        required_unless_present = "files",
        requires = "name"
    )]
    pub kind: Option<String>,
    /// The object's name.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The namespace.
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    pub namespace: String,
    /// Deletes the objects that a file, a folder or standard input (`-`) describes.
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "kind")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub wait: Wait,
}

/// `maille routes`
#[derive(Args, Debug)]
pub struct Routes {
    /// Only the routes of this service; `<namespace>/<service>` for one of another namespace.
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    #[command(flatten)]
    pub scope: Scope,
}
