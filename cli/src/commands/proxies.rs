//! `maille proxies`: every sidecar that any controller knows, who is behind, and what was refused.

use serde::Serialize;
use xds_api::generated::maille::v1 as api;

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, Rows, or_dash, time};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Proxy {
    node: String,
    kind: String,
    version: String,
    spiffe_id: String,
    controller: String,
    clean_through: u64,
    behind_seconds: u64,
    last_nack: String,
    certificate_not_after: String,
    resources: u64,
    resource_bytes: u64,
    connected_at: String,
}

pub(super) async fn run(cluster: &Cluster, printer: Printer) -> Outcome {
    let answer = cluster
        .call(async |mut client| Ok(client.proxies(api::ProxiesRequest {}).await?.into_inner()))
        .await;
    let answer = answer.map_err(|status| Failure::from_status("list the proxies", &status, &[]))?;
    let proxies = answer.proxies.into_iter().map(proxy).collect::<Vec<_>>();
    printer.result(&proxies, || table(&proxies))
}

fn proxy(proxy: api::Proxy) -> Proxy {
    Proxy {
        node: proxy.node,
        kind: proxy.kind,
        version: proxy.version,
        spiffe_id: proxy.spiffe_id,
        controller: proxy.controller,
        clean_through: proxy.clean_through,
        behind_seconds: proxy.behind_seconds,
        last_nack: proxy.last_nack,
        certificate_not_after: time(proxy.certificate_not_after),
        resources: proxy.resources,
        resource_bytes: proxy.resource_bytes,
        connected_at: time(proxy.connected_at),
    }
}

fn table(proxies: &[Proxy]) -> Rows {
    let first = [
        "node",
        "identity",
        "controller",
        "clean through",
        "behind",
        "refused",
    ];
    let mut rows = Rows::new(first).wide([
        "kind",
        "version",
        "certificate until",
        "resources",
        "bytes",
        "connected",
    ]);
    for proxy in proxies {
        rows.push([
            proxy.node.clone(),
            proxy.spiffe_id.clone(),
            or_dash(&proxy.controller),
            proxy.clean_through.to_string(),
            format!("{}s", proxy.behind_seconds),
            or_dash(&proxy.last_nack),
            proxy.kind.clone(),
            proxy.version.clone(),
            proxy.certificate_not_after.clone(),
            proxy.resources.to_string(),
            proxy.resource_bytes.to_string(),
            proxy.connected_at.clone(),
        ]);
    }
    rows
}
