//! `maille apply`: writes objects from files, all or none.

use xds_api::generated::maille::v1 as api;

use crate::args::objects::Apply;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::Printer;

use super::{documents, outcome, staged, wait};

pub(super) async fn run(args: &Apply, cluster: &Cluster, printer: Printer) -> Outcome {
    let documents = documents::read(&args.files)?;
    if !args.staged.is_empty() {
        return staged::run(args, documents, cluster, printer).await;
    }
    let request = api::ApplyRequest {
        documents,
        dry_run: args.dry_run,
        client: cluster.writer().to_string(),
        sequence: 1,
    };
    let answer = cluster
        .call(async |mut client| Ok(client.apply(request.clone()).await?.into_inner()))
        .await;
    let answer =
        answer.map_err(|status| Failure::from_status("apply", &status, &request.documents))?;
    outcome::print(
        printer,
        answer.index,
        answer.results,
        answer.warnings,
        args.dry_run,
    )?;
    match args.wait.wait {
        Some(limit) if !args.dry_run => wait::until_live(cluster, answer.index, limit).await,
        _ => Ok(()),
    }
}
