//! `maille grpc`: the bootstrap of a gRPC program.

use crate::agent::account;
use crate::agent::settings::{Kind, Settings};
use crate::args::grpc::{Bootstrap, Grpc, GrpcAction};
use crate::failure::{Failure, Outcome};
use crate::grpc::bootstrap;
use crate::printer::data;

pub(super) async fn run(args: &Grpc) -> Outcome {
    match &args.action {
        GrpcAction::Bootstrap(args) => print(args).await,
    }
}

/// JSON whatever form is asked for: gRPC reads nothing else.
async fn print(args: &Bootstrap) -> Outcome {
    let settings = Settings::load(&args.config, Kind::Grpc).await?;
    let account = match &args.service_account {
        Some(account) => account.clone(),
        None => account::known(&settings).await?,
    };
    let files = settings.agent.files.as_ref();
    let files = files.ok_or_else(|| {
        Failure::failed("find agent.files in what maille-proxy check-config prints")
            .next("is maille-proxy of the same version as this program?")
    })?;
    let value = bootstrap::bootstrap(&settings, files, &account);
    data(&format!("{value:#}\n"))
}
