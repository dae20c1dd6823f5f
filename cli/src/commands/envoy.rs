//! `maille envoy`: the bootstrap, and an Envoy with its agent.

use crate::agent::account;
use crate::agent::settings::{Kind, Settings};
use crate::args::envoy::{Bootstrap, Envoy, EnvoyAction};
use crate::envoy::{bootstrap, run};
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, data};

pub(super) async fn run(args: &Envoy, printer: Printer) -> Outcome {
    match &args.action {
        EnvoyAction::Bootstrap(args) => print(args, printer).await,
        EnvoyAction::Run(args) => run::run(args).await,
    }
}

async fn print(args: &Bootstrap, printer: Printer) -> Outcome {
    let settings = Settings::load(&args.config, Kind::Envoy).await?;
    let account = match &args.service_account {
        Some(account) => account.clone(),
        None => account::known(&settings).await?,
    };
    let value = bootstrap::bootstrap(&settings, &account, args.admin_port);
    if printer.for_programs() {
        return printer.result(&value, Default::default);
    }
    let yaml = serde_saphyr::to_string(&value)
        .map_err(|error| Failure::failed("write the bootstrap as YAML").caused_by(error))?;
    data(&yaml)
}
