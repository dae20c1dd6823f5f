//! `maille diff`: which clients an apply would send what.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;
use xds_api::generated::maille::v1 as api;

use crate::args::objects::Diff;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, say};
use crate::readable;

use super::documents;

/// Lines around a difference.
const CONTEXT: usize = 3;
/// Clients that are named with a resource; `-o json` names all.
const NAMED: usize = 3;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    index: u64,
    clients: Vec<Client>,
    resources: Vec<Resource>,
    warnings: Vec<String>,
    silent_controllers: Vec<String>,
    silent_streams: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    node: String,
    kind: String,
    controller: String,
    /// Places in the report's resources.
    resources: Vec<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    dialect: String,
    type_url: String,
    name: String,
    change: Change,
    /// Nodes, ascending.
    clients: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
    #[serde(skip)]
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Change {
    Added,
    Changed,
    Removed,
    /// By the rules of xDS, though it is what the client has.
    SentAgain,
}

pub(super) async fn run(args: &Diff, cluster: &Cluster, printer: Printer) -> Outcome {
    let request = api::PreviewRequest {
        documents: documents::read(&args.files)?,
    };
    let answer = cluster
        .call(async |mut client| Ok(client.preview(request.clone()).await?.into_inner()))
        .await;
    let answer =
        answer.map_err(|status| Failure::from_status("diff", &status, &request.documents))?;
    let report = report(answer);
    for warning in &report.warnings {
        say(&format!("warning: {warning}"));
    }
    for controller in &report.silent_controllers {
        say(&format!(
            "{controller} did not answer: its clients are not in the list"
        ));
    }
    if report.silent_streams > 0 {
        say(&format!(
            "{} streams did not answer: their clients take in nothing at present; see `maille proxies`",
            report.silent_streams
        ));
    }
    printer.text(&report, || text(&report))
}

fn report(answer: api::PreviewResponse) -> Report {
    let preview = answer.preview.unwrap_or_default();
    let mut resources: Vec<Resource> = preview.resources.iter().map(resource).collect();
    for client in &preview.clients {
        for place in &client.resources {
            if let Some(resource) = resources.get_mut(*place as usize) {
                resource.clients.push(client.node.clone());
            }
        }
    }
    let client = |client: api::PreviewedClient| Client {
        node: client.node,
        kind: client.kind,
        controller: client.controller,
        resources: client.resources,
    };
    Report {
        index: answer.state.unwrap_or_default().index,
        clients: preview.clients.into_iter().map(client).collect(),
        resources,
        warnings: answer.warnings,
        silent_controllers: preview.silent_controllers,
        silent_streams: preview.silent_streams,
    }
}

fn resource(resource: &api::PreviewedResource) -> Resource {
    let (before, after) = (&resource.before_version, &resource.after_version);
    let change = match (before.is_empty(), after.is_empty()) {
        _ if before == after => Change::SentAgain,
        (true, _) => Change::Added,
        (_, true) => Change::Removed,
        _ => Change::Changed,
    };
    let shown = change != Change::SentAgain && !resource.left_out;
    let read = |version: &str, bytes: &[u8]| {
        let there = shown && !version.is_empty();
        let read = there.then(|| readable::value(&resource.type_url, bytes));
        read.and_then(Result::ok)
    };
    Resource {
        dialect: resource.dialect.clone(),
        type_url: resource.type_url.clone(),
        name: resource.name.clone(),
        change,
        clients: Vec::new(),
        before: read(before, &resource.before),
        after: read(after, &resource.after),
        text: match (change, resource.left_out) {
            (Change::SentAgain, _) => String::new(),
            (_, true) => "  (left out: there is too much for one answer)\n".to_owned(),
            _ => difference(resource),
        },
    }
}

/// A unified difference of the two texts.
fn difference(resource: &api::PreviewedResource) -> String {
    let text = |version: &str, bytes: &[u8]| match version {
        "" => String::new(),
        _ => readable::yaml(&resource.type_url, bytes),
    };
    let before = text(&resource.before_version, &resource.before);
    let after = text(&resource.after_version, &resource.after);
    let lines = TextDiff::from_lines(&before, &after);
    lines.unified_diff().context_radius(CONTEXT).to_string()
}

fn text(report: &Report) -> String {
    let changed = |resource: &&Resource| resource.change != Change::SentAgain;
    let count = report.resources.iter().filter(changed).count();
    let again = report.resources.len() - count;
    let mut text = String::new();
    for resource in report.resources.iter().filter(changed) {
        let sign = match resource.change {
            Change::Added => "+",
            Change::Removed => "-",
            _ => "~",
        };
        let kind = short(&resource.type_url);
        let (dialect, name) = (&resource.dialect, &resource.name);
        let clients = names(&resource.clients);
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{sign} {kind} {name} ({dialect}) to {clients}");
        text += &resource.text;
    }
    let clients = report.clients.len();
    let _infallible = match (clients, again) {
        (0, _) => writeln!(text, "no client would be sent anything"),
        (_, 0) => writeln!(text, "{clients} clients would be sent {count} resources"),
        _ => writeln!(
            text,
            "{clients} clients would be sent {count} resources, and {again} again as they are"
        ),
    };
    text
}

/// `Cluster` of `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
fn short(type_url: &str) -> &str {
    type_url.rsplit_once('.').map_or(type_url, |(_, name)| name)
}

fn names(clients: &[String]) -> String {
    let mut named: Vec<&str> = clients.iter().take(NAMED).map(String::as_str).collect();
    let more = format!("{} more", clients.len().saturating_sub(NAMED));
    if clients.len() > NAMED {
        named.push(&more);
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use prost::{Message, Name};
    use xds_api::generated::envoy::config::endpoint::v3::ClusterLoadAssignment;

    use super::*;

    #[test]
    fn a_report_says_who_would_be_sent_what() {
        let assignment = |name: &str| {
            let cluster_name = name.to_owned();
            let message = ClusterLoadAssignment {
                cluster_name,
                ..Default::default()
            };
            message.encode_to_vec().into()
        };
        let resource = |name: &str, before: &str, after: &str| api::PreviewedResource {
            dialect: "envoy".to_owned(),
            type_url: ClusterLoadAssignment::type_url(),
            name: name.to_owned(),
            before_version: before.to_owned(),
            after_version: after.to_owned(),
            before: assignment(before),
            after: assignment(after),
            ..Default::default()
        };
        let client = |node: &str, resources: &[u32]| api::PreviewedClient {
            node: node.to_owned(),
            resources: resources.to_vec(),
            ..Default::default()
        };
        let answer = api::PreviewResponse {
            preview: Some(api::Preview {
                clients: ["a/1", "a/2", "a/3", "a/4"]
                    .map(|node| client(node, &[0, 1, 2, 3]))
                    .into(),
                resources: vec![
                    resource("changed", "old", "new"),
                    resource("added", "", "new"),
                    resource("removed", "old", ""),
                    resource("again", "same", "same"),
                ],
                ..Default::default()
            }),
            ..Default::default()
        };
        insta::assert_snapshot!(text(&report(answer)));
        let nobody = text(&report(api::PreviewResponse::default()));
        assert_eq!(nobody, "no client would be sent anything\n");
    }
}
