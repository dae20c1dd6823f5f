//! What can go wrong, what a person can do about it, and the exit code that says which it was.

use crate::plan::Family;

/// Everything was done, or `--check` found what it should.
pub const EXIT_DONE: u8 = 0;
/// `--check` found differences.
pub const EXIT_DIFFERS: u8 = 1;
/// The command line is wrong (clap uses the same code).
pub const EXIT_USAGE: u8 = 2;
/// The process may not change the network.
pub const EXIT_NOT_PERMITTED: u8 = 3;
/// A program that is needed is not installed.
pub const EXIT_TOOL_MISSING: u8 = 4;
/// The kernel lacks a table, a match or a target.
pub const EXIT_KERNEL: u8 = 5;
/// The kernel or a program refused for another reason.
pub const EXIT_REFUSED: u8 = 6;

/// Why nothing, or not everything, was done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line contradicts itself; every contradiction at once.
    #[error("the command line is wrong:\n  {}", .0.join("\n  "))]
    Usage(Vec<String>),
    /// CAP_NET_ADMIN is missing.
    #[error("this process may not change the network (it has no CAP_NET_ADMIN)")]
    NotPermitted,
    /// A program is not in PATH.
    #[error("`{tool}` was not found in PATH")]
    ToolMissing {
        /// The program's name.
        tool: String,
    },
    /// The kernel lacks something.
    #[error("the kernel lacks what `{tool}` needs: {said}")]
    Kernel {
        /// The program that complained.
        tool: String,
        /// What it said.
        said: String,
    },
    /// IPv6 is in use here, but cannot be redirected.
    #[error("IPv6 is in use here and cannot be redirected")]
    Ipv6 {
        /// What stands in the way.
        source: Box<Failure>,
    },
    /// The loopback interface is down: nothing can be redirected to it.
    #[error("the loopback interface `lo` is down, so nothing can be redirected to the proxy")]
    LoopbackDown,
    /// Somebody else's route covers exactly a virtual range.
    #[error("a route for the virtual range {range} is already there and is not ours: {found}")]
    ForeignRoute {
        /// The virtual range.
        range: String,
        /// The route as `ip` shows it.
        found: String,
    },
    /// A program refused.
    #[error("`{tool}` refused: {said}")]
    Refused {
        /// The program.
        tool: String,
        /// What it said.
        said: String,
    },
    /// One family is done and the other is not.
    #[error("the rules for {done} are in force, those for {failed} are not")]
    HalfDone {
        /// The family whose transaction went through.
        done: Family,
        /// The family whose transaction did not.
        failed: Family,
        /// Why it did not.
        source: Box<Failure>,
    },
    /// A file or a program could not be read.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, on what.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl Failure {
    /// The exit code that stands for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => EXIT_USAGE,
            Failure::NotPermitted => EXIT_NOT_PERMITTED,
            Failure::ToolMissing { .. } => EXIT_TOOL_MISSING,
            Failure::Kernel { .. } => EXIT_KERNEL,
            Failure::Ipv6 { source } | Failure::HalfDone { source, .. } => source.exit_code(),
            Failure::LoopbackDown
            | Failure::ForeignRoute { .. }
            | Failure::Refused { .. }
            | Failure::Io { .. } => EXIT_REFUSED,
        }
    }

    /// What to do about it, as a person would be told.
    pub fn remedy(&self) -> String {
        match self {
            Failure::Usage(_) => "see `maille-init --help`".to_owned(),
            Failure::NotPermitted => {
                "run it as root, or give it the capabilities NET_ADMIN and NET_RAW (in a pod: securityContext.capabilities.add)".to_owned()
            }
            Failure::ToolMissing { tool } if tool == "ip" => "install iproute2, or pass --no-routes where a default route exists".to_owned(),
            Failure::ToolMissing { .. } => {
                "install iptables (Debian: apt-get install iptables), or name the variant that is installed with --iptables=nft|legacy".to_owned()
            }
            Failure::Kernel { .. } => {
                "load the modules (nft: nf_tables nft_chain_nat nft_compat xt_REDIRECT xt_owner xt_multiport xt_addrtype; legacy: iptable_nat \
                 ip6table_nat), or try the other variant with --iptables=legacy|nft; without IPv6 in the kernel pass --ipv6=off"
                    .to_owned()
            }
            Failure::Ipv6 { source } => {
                format!("cause: {source}\n{}; or pass --ipv6=off, and know that IPv6 traffic then passes by the proxy", source.remedy())
            }
            Failure::LoopbackDown => "run `ip link set lo up` first".to_owned(),
            Failure::ForeignRoute { range, .. } => {
                format!("remove it (`ip route del {range}`), choose another --virtual-range, or pass --no-routes if it leads to `lo`")
            }
            Failure::Refused { .. } => {
                "see what it would do with `maille-init --simulate`; another firewall tool may hold the lock: run it again".to_owned()
            }
            Failure::HalfDone { source, .. } => {
                format!("cause: {source}\n{}; then run it again, or undo it with `maille-init --remove`", source.remedy())
            }
            Failure::Io { .. } => "check that the file exists and can be read".to_owned(),
        }
    }
}
