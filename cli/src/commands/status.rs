//! `maille status`: what each controller says of itself and of the cluster.

use std::collections::BTreeMap;

use serde::Serialize;
use tonic::Status;
use xds_api::generated::maille::v1 as api;

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, Rows, or_dash, say};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    controller: String,
    cluster_id: String,
    trust_domain: String,
    version: String,
    feature_level: u32,
    leader: String,
    term: u64,
    index: u64,
    incarnation: u64,
    age_millis: u64,
    last_log: u64,
    committed: u64,
    applied: u64,
    snapshot: u64,
    purged: u64,
    mesh_hash: String,
    disk_bytes: u64,
    streams: u32,
    sealed: bool,
    objects: BTreeMap<String, u64>,
    resource_hashes: BTreeMap<String, String>,
}

/// Asks every controller; at least one must answer.
pub(super) async fn run(cluster: &Cluster, printer: Printer) -> Outcome {
    let mut views = Vec::new();
    let mut silent: Option<Status> = None;
    for answer in each(cluster).await {
        match answer {
            Ok(status) => views.push(view(status)),
            Err(status) => {
                say(&format!("no answer: {}", status.message()));
                silent = Some(status);
            }
        }
    }
    if let (true, Some(status)) = (views.is_empty(), silent) {
        return Err(Failure::from_status("status", &status, &[]));
    }
    printer.result(&views, || table(&views))
}

/// The status of every controller, asked at the same time.
pub(super) async fn each(cluster: &Cluster) -> Vec<Result<api::StatusResponse, Status>> {
    let one = async |cluster: Cluster| {
        cluster
            .call_once(async |mut client| {
                Ok(client.status(api::StatusRequest {}).await?.into_inner())
            })
            .await
    };
    futures_util::future::join_all(cluster.each().into_iter().map(one)).await
}

fn view(status: api::StatusResponse) -> View {
    let state = status.state.unwrap_or_default();
    View {
        controller: state.controller,
        cluster_id: status.cluster_id,
        trust_domain: status.trust_domain,
        version: status.version,
        feature_level: status.feature_level,
        leader: status.leader,
        term: status.term,
        index: state.index,
        incarnation: state.incarnation,
        age_millis: state.age_millis,
        last_log: status.last_log,
        committed: status.committed,
        applied: status.applied,
        snapshot: status.snapshot,
        purged: status.purged,
        mesh_hash: status.mesh_hash,
        disk_bytes: status.disk_bytes,
        streams: status.streams,
        sealed: status.sealed,
        objects: status.objects.into_iter().collect(),
        resource_hashes: status.resource_hashes.into_iter().collect(),
    }
}

fn table(views: &[View]) -> Rows {
    let first = [
        "controller",
        "leader",
        "term",
        "index",
        "applied",
        "streams",
        "objects",
        "version",
    ];
    let mut rows =
        Rows::new(first).wide(["snapshot", "purged", "disk", "level", "sealed", "mesh hash"]);
    for view in views {
        rows.push([
            view.controller.clone(),
            or_dash(&view.leader),
            view.term.to_string(),
            view.index.to_string(),
            view.applied.to_string(),
            view.streams.to_string(),
            view.objects.values().sum::<u64>().to_string(),
            view.version.clone(),
            view.snapshot.to_string(),
            view.purged.to_string(),
            view.disk_bytes.to_string(),
            view.feature_level.to_string(),
            crate::printer::yes_no(view.sealed).to_string(),
            view.mesh_hash.chars().take(16).collect(),
        ]);
    }
    rows
}
