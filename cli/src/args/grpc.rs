//! Command lines of `maille grpc`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `maille grpc`
#[derive(Args, Debug)]
pub struct Grpc {
    #[command(subcommand)]
    pub action: GrpcAction,
}

/// What to do for a gRPC program.
#[derive(Debug, Subcommand)]
pub enum GrpcAction {
    /// Prints the bootstrap (JSON) with which a program with gRPC's xDS in it takes part in the mesh through a running `maille-proxy agent`. Put it in a file and name that in `GRPC_XDS_BOOTSTRAP`.
    Bootstrap(Bootstrap),
}

/// What the bootstrap is made from.
#[derive(Args, Clone, Debug)]
pub struct Bootstrap {
    /// The configuration of the agent (YAML); its `agent.kind` is `grpc`.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The service account of the workload's identity [default: that of the certificate, which the running agent tells, or of the join token]
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,
}
