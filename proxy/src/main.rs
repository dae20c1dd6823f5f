//! `maille-proxy`: the sidecar, and the agent beside an Envoy or a gRPC program.

use clap::{Parser, Subcommand};
use maille_proxy::app;
use maille_proxy::config::{Config, Hosted, InvalidConfig};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The system's allocator keeps what thousands of connections have left behind; this one gives it back within seconds. Its
/// settings stand in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The configuration cannot be used.
const EXIT_CONFIG: u8 = 2;

/// The sidecar of the Maille service mesh.
#[derive(Debug, Parser)]
#[command(name = "maille-proxy", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs until SIGTERM or SIGINT, then drains and ends; a second signal ends at once.
    Run {
        /// The configuration (YAML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Stands beside an Envoy or a gRPC program instead of taking its connections: serves its certificate and passes its calls
    /// on to the control plane, on the Unix socket agent.socket. Runs until SIGTERM or SIGINT; a second signal ends at once.
    Agent {
        /// The configuration (YAML), the same as the sidecar's.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Reads a configuration and prints what it comes to, or everything that is wrong with it (exit code 2).
    CheckConfig {
        /// The configuration (YAML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Prints the version.
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => with_config(&config, Hosted::load(&config), |hosted| {
            ended(app::run_sidecar(hosted))
        }),
        Command::Agent { config } => with_config(&config, Config::load(&config), |config| {
            ended(app::run_agent(config))
        }),
        Command::CheckConfig { config } => with_config(&config, Hosted::load(&config), |hosted| {
            print!("{}", hosted.resolved());
            ExitCode::SUCCESS
        }),
        Command::Version => {
            println!("maille-proxy {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

fn with_config<T>(
    path: &Path,
    read: Result<T, InvalidConfig>,
    act: impl FnOnce(T) -> ExitCode,
) -> ExitCode {
    match read {
        Ok(config) => act(config),
        Err(invalid) => {
            eprintln!(
                "maille-proxy: {} cannot be used:\n{invalid}",
                path.display()
            );
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    outcome.map_or_else(failed, |()| ExitCode::SUCCESS)
}

fn failed(error: anyhow::Error) -> ExitCode {
    eprintln!("maille-proxy: {error:#}");
    ExitCode::FAILURE
}
