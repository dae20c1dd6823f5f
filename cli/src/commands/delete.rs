//! `maille delete`: deletes one object, or those that files describe.

use xds_api::generated::maille::v1 as api;

use crate::args::objects::Delete;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::Printer;

use super::{documents, outcome, wait};

pub(super) async fn run(args: &Delete, cluster: &Cluster, printer: Printer) -> Outcome {
    let documents = documents::read(&args.files)?;
    let request = api::DeleteRequest {
        kind: args.kind.clone().unwrap_or_default(),
        namespace: if args.kind.is_some() {
            args.namespace.clone()
        } else {
            String::new()
        },
        name: args.name.clone().unwrap_or_default(),
        documents,
        client: cluster.writer().to_string(),
        sequence: 1,
    };
    let answer = cluster
        .call(async |mut client| Ok(client.delete(request.clone()).await?.into_inner()))
        .await;
    let answer =
        answer.map_err(|status| Failure::from_status("delete", &status, &request.documents))?;
    outcome::print(printer, answer.index, answer.results, Vec::new(), false)?;
    match args.wait.wait {
        Some(limit) => wait::until_live(cluster, answer.index, limit).await,
        None => Ok(()),
    }
}
