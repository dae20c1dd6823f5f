//! One file per command, and the one place that picks among them.

mod apply;
mod ca;
mod check;
mod completions;
mod delete;
mod diff;
mod documents;
mod envoy;
mod get;
mod grpc;
mod members;
mod outcome;
mod proxies;
mod proxy;
mod rollout;
mod routes;
mod snapshot;
mod staged;
mod stat;
mod status;
mod token;
mod told;
mod version;
mod wait;

use crate::args::{Arguments, Command};
use crate::cluster::Cluster;
use crate::dev;
use crate::failure::Outcome;
use crate::printer::Printer;

/// Runs the command.
///
/// # Errors
/// Whatever the user should know, see [`crate::failure::Failure`].
pub async fn run(arguments: Arguments) -> Outcome {
    let printer = Printer::new(arguments.global.output);
    let open = || Cluster::open(&arguments.global.reach.clone().with_environment());
    match &arguments.command {
        Command::Dev(args) => dev::run(args, printer).await,
        Command::DevJanitor(args) => dev::janitor::wait_and_clean(args).await,

        Command::DevApp(args) => dev::app::run(&args.app).await,

        Command::Check(_) => check::run(&open()?, printer).await,
        Command::Status(_) => status::run(&open()?, printer).await,
        Command::Members(args) => members::run(args, &open()?, printer).await,
        Command::Apply(args) => apply::run(args, &open()?, printer).await,
        Command::Diff(args) => diff::run(args, &open()?, printer).await,
        Command::Rollout(args) => rollout::run(args, &open()?, printer).await,
        Command::Get(args) => get::run(args, &open()?, printer).await,
        Command::Delete(args) => delete::run(args, &open()?, printer).await,
        Command::Token(args) => token::run(args, &open()?, printer).await,
        Command::Ca(args) => ca::run(args, &open()?, printer).await,
        Command::Proxies(args) => match &args.config {
            Some(node) => told::run(node, &open()?, printer).await,
            None => proxies::run(&open()?, printer).await,
        },
        Command::Proxy(args) => proxy::run(args, printer).await,
        Command::Routes(args) => routes::run(args, &open()?, printer).await,
        Command::Envoy(args) => envoy::run(args, printer).await,
        Command::Grpc(args) => grpc::run(args).await,
        Command::Stat(args) => stat::run(args, &open()?, printer).await,
        Command::Snapshot(args) => snapshot::run(args, open, printer).await,
        Command::Completions(args) => completions::run(args),
        Command::Version(args) => version::run(args, open, printer).await,
    }
}
