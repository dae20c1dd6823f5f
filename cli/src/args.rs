//! The command line. Every flag's help is its manual.

pub mod dev;
pub mod envoy;
pub mod grpc;
pub mod objects;
pub mod operate;
pub mod stat;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::failure::EXIT_CODES;
use crate::printer::Format;

/// A service mesh: mutual TLS, balancing, policy and measurement without touching programs.
#[derive(Debug, Parser)]
#[command(name = "maille", version, max_term_width = 120, after_help = EXIT_CODES, propagate_version = true, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// How results are printed. They go to standard output; everything else goes to standard error.
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        global = true,
        value_name = "FORM"
    )]
    pub output: Format,
    #[command(flatten)]
    pub reach: Reach,
}

/// How to reach the control plane.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Reaching the controllers")]
pub struct Reach {
    /// The directory with client.crt, client.key, ca.crt and endpoints, as `maille-controller init` writes it [env: MAILLE_ADMIN] [default: ~/.config/maille]
    #[arg(long, global = true, value_name = "DIR")]
    pub admin: Option<PathBuf>,
    /// A controller's admin socket on this machine, instead of the network. May be given several times; each is tried. Needs root. [env: MAILLE_SOCKET, comma-separated]
    #[arg(long, value_delimiter = ',', global = true, value_name = "PATH")]
    pub socket: Vec<PathBuf>,
    /// An admin endpoint (host:port), instead of those that the directory lists. May be given several times; each is tried.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub endpoint: Vec<String>,
    /// How long a command keeps trying, in seconds. Every controller is tried, and a write keeps its number, so that it is applied once.
    #[arg(long, default_value_t = 15, global = true, value_name = "SECONDS")]
    pub timeout: u64,
}

impl Reach {
    /// Fills in what the flags leave open from the environment. It is read here and nowhere else.
    #[must_use]
    pub fn with_environment(mut self) -> Reach {
        let flags = self.admin.is_some() || !self.socket.is_empty();
        if flags {
            return self;
        }
        self.admin = std::env::var_os("MAILLE_ADMIN").map(PathBuf::from);
        if let Some(sockets) = std::env::var_os("MAILLE_SOCKET") {
            self.socket = sockets
                .to_string_lossy()
                .split(',')
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
                .collect();
        }
        self
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a whole mesh on this machine: three controllers and a demo of four services, each in a network namespace of its own.
    Dev(dev::Dev),
    /// Checks that the mesh is healthy: controllers, leader, certificates, clients that lag or refuse.
    Check(operate::Check),
    /// Shows one controller's view: leader, indices, objects, streams, disk.
    Status(operate::Status),
    /// Lists, removes and directs the controllers of the cluster.
    Members(operate::Members),
    /// Writes objects from files, all or none.
    Apply(objects::Apply),
    /// Shows which clients an apply would send what, before anything is written.
    Diff(objects::Diff),
    /// Shows the change that is being rolled out, finishes or aborts it.
    Rollout(objects::Rollout),
    /// Shows objects. `-o wide` adds whether the last change of each is live, and what clients that are there do otherwise than it says.
    Get(objects::Get),
    /// Deletes objects.
    Delete(objects::Delete),
    /// Makes and withdraws the one-time tokens by which workloads and controllers join.
    Token(operate::Token),
    /// Shows the trust roots and the issuance log, and verifies the log's hash chain.
    Ca(operate::Ca),
    /// Lists every sidecar: its identity, how far it is, what it refused.
    Proxies(operate::Proxies),
    /// Asks one sidecar on this machine: status, configuration, metrics, log level.
    Proxy(operate::Proxy),
    /// Runs an Envoy in the mesh, or prints its bootstrap.
    Envoy(envoy::Envoy),
    /// Prints the bootstrap of a gRPC program that is in the mesh without a sidecar.
    Grpc(grpc::Grpc),
    /// Lists the rules of HTTPRoutes and GRPCRoutes: for each its matches, backends with weights, and timeouts.
    Routes(objects::Routes),
    /// Shows what was called lately: success rate, requests a second, how long answers took, by service or by client.
    Stat(stat::Stat),
    /// Saves, inspects and restores snapshots of the whole mesh.
    Snapshot(operate::Snapshot),
    /// Prints the shell's completion script: `source <(maille completions bash)`.
    Completions(operate::Completions),
    /// Shows the versions of this program and of the controllers.
    Version(operate::Version),
    #[command(hide = true)]
    DevApp(dev::DevApp),
    #[command(hide = true)]
    DevJanitor(dev::DevJanitor),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_and_command_explains_itself() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(
                command.is_hide_set() || command.get_about().is_some(),
                "{path} has no help"
            );
            for argument in command.get_arguments() {
                let explained = argument.get_help().is_some() || command.is_hide_set();
                assert!(explained, "{path}: --{} has no help", argument.get_id());
            }
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                walk(sub, &path);
            }
        }
        walk(&Arguments::command(), "");
    }
}
