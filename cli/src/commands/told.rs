//! `maille proxies --config NODE`: what a client was sent, and what it said to it, by the controllers' client status (CSDS).

use serde::Serialize;
use serde_json::Value;
use tonic::{Response, Status};
use xds_api::envoy::admin::v3::ClientResourceStatus;
use xds_api::envoy::service::status::v3::client_config::GenericXdsConfig;
use xds_api::envoy::service::status::v3::{ClientStatusRequest, ClientStatusResponse};
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_api::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};

use crate::cluster::Cluster;
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::{Printer, Rows, or_dash, say};
use crate::readable;

/// By which a controller says how many of its streams did not answer.
const SILENT: &str = "maille-silent-streams";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    /// Of several streams of the client, the one that this is of; from 1.
    stream: usize,
    type_url: String,
    name: String,
    version: String,
    status: &'static str,
    error: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    resource: Value,
}

pub(super) async fn run(node: &str, cluster: &Cluster, printer: Printer) -> Outcome {
    let matcher = StringMatcher {
        match_pattern: Some(MatchPattern::Exact(node.to_owned())),
        ..StringMatcher::default()
    };
    let request = ClientStatusRequest {
        node_matchers: vec![NodeMatcher {
            node_id: Some(matcher),
            node_metadatas: Vec::new(),
        }],
        exclude_resource_contents: !printer.for_programs(),
    };
    let clients = clients(&cluster.client_status(&request).await, node)?;
    let resources: Vec<Resource> = clients
        .into_iter()
        .flat_map(|client| client.config)
        .enumerate()
        .flat_map(|(at, client)| {
            let resources = client.generic_xds_configs.into_iter();
            resources.map(move |one| resource(at + 1, one))
        })
        .collect();
    printer.result(&resources, || table(&resources))
}

/// The answers that came; somebody must know the client.
fn clients(
    answers: &[Result<Response<ClientStatusResponse>, Status>],
    node: &str,
) -> Outcome<Vec<ClientStatusResponse>> {
    let silent = || answers.iter().filter_map(|one| one.as_ref().err());
    for status in silent() {
        say(&format!("no answer: {}", status.message()));
    }
    for answer in answers.iter().flatten() {
        if let Some(count) = answer
            .metadata()
            .get(SILENT)
            .and_then(|one| one.to_str().ok())
        {
            say(&format!(
                "{count} streams of one controller did not answer: their clients take in nothing at present"
            ));
        }
    }
    let came = answers.iter().flatten().map(|one| one.get_ref().clone());
    let came: Vec<ClientStatusResponse> = came.collect();
    if came.iter().any(|one| !one.config.is_empty()) {
        return Ok(came);
    }
    if let Some(status) = silent().next() {
        return Err(Failure::from_status("ask for client status", status, &[]));
    }
    let message =
        format!("no controller that was asked has a stream of {node}, or it may not be shown");
    Err(Failure::new(Exit::NotFound, message)
        .next("`maille proxies` lists who is there, as <namespace>/<workload>; with --socket only that controller is asked"))
}

fn resource(stream: usize, one: GenericXdsConfig) -> Resource {
    let status = match one.client_status() {
        ClientResourceStatus::Unknown => "UNKNOWN",
        ClientResourceStatus::Requested => "REQUESTED",
        ClientResourceStatus::DoesNotExist => "DOES_NOT_EXIST",
        ClientResourceStatus::Acked => "ACKED",
        ClientResourceStatus::Nacked => "NACKED",
    };
    let error = one.error_state.unwrap_or_default();
    let body = one.xds_config.or(error.failed_configuration);
    let read = body.map(|body| {
        readable::value(&body.type_url, &body.value)
            .unwrap_or_else(|why| Value::String(format!("cannot be read: {why}")))
    });
    Resource {
        stream,
        type_url: one.type_url,
        name: one.name,
        version: match one.version_info.is_empty() {
            true => error.version_info,
            false => one.version_info,
        },
        status,
        error: error.details,
        resource: read.unwrap_or_default(),
    }
}

fn table(resources: &[Resource]) -> Rows {
    let mut rows = Rows::new(["type", "name", "version", "status", "error"]).wide(["stream"]);
    for one in resources {
        let kind = one.type_url.rsplit('.').next().unwrap_or_default();
        rows.push([
            kind.to_owned(),
            one.name.clone(),
            or_dash(&one.version),
            one.status.to_owned(),
            or_dash(&one.error),
            one.stream.to_string(),
        ]);
    }
    rows
}
