//! Which kind a document is of, and the names by which people call kinds.

use super::{node::Node, problem::Findings, shape::nearest};
use crate::model::Kind;

/// The kind by `apiVersion` and `kind`: the first look at a document.
pub(super) fn of(node: &Node, findings: &mut Findings) -> Option<Kind> {
    let mut text = |field: &'static str| match node.get(field) {
        None => {
            findings.error(node.position, field, format!("`{field}` is missing"));
            None
        }
        Some(value) if value.text().is_none() => {
            findings.error(
                value.position,
                field,
                format!("text belongs here, not {}", value.describe()),
            );
            None
        }
        Some(value) => value.text(),
    };
    let (version, name) = (text("apiVersion"), text("kind"));
    let (version, name) = (version?, name?);
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
        findings.error(node.nearest("kind"), "kind", unknown(name));
        return None;
    };
    if kind.api_version() != version {
        let message = format!(
            "{kind} is of apiVersion `{}`, not `{version}`",
            kind.api_version()
        );
        findings.error(node.nearest("apiVersion"), "apiVersion", message);
        return None;
    }
    Some(kind)
}

fn unknown(name: &str) -> String {
    let known = Kind::ALL.map(Kind::name);
    match by_alias(name)
        .map(Kind::name)
        .or_else(|| nearest(name, &known))
    {
        Some(near) => format!(
            "the mesh has no kind `{name}`; did you mean `{near}`? There are {}",
            known.join(", ")
        ),
        None => format!(
            "the mesh has no kind `{name}`; there are {}",
            known.join(", ")
        ),
    }
}

/// A kind by any usual form of its name: `Service`, `services`, `svc`.
pub fn by_alias(name: &str) -> Option<Kind> {
    let lower = name.to_lowercase();
    let lower = lower.split('.').next().unwrap_or(&lower);
    Kind::ALL
        .into_iter()
        .find(|kind| aliases(*kind).contains(&lower))
}

/// What a person may type for a kind, in lower case.
pub const fn aliases(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Service => &["service", "services", "svc"],
        Kind::HttpRoute => &["httproute", "httproutes", "route", "routes"],
        Kind::GrpcRoute => &["grpcroute", "grpcroutes"],
        Kind::Workload => &["workload", "workloads", "wl"],
        Kind::AuthorizationPolicy => &[
            "authorizationpolicy",
            "authorizationpolicies",
            "authz",
            "ap",
        ],
        Kind::TrafficPolicy => &["trafficpolicy", "trafficpolicies", "tp"],
        Kind::MeshSettings => &["meshsettings", "meshsetting", "settings"],
    }
}

/// The message for a kind's name that nobody knows.
pub fn unknown_alias(name: &str) -> String {
    let all: Vec<&str> = Kind::ALL
        .into_iter()
        .flat_map(|kind| aliases(kind).iter().copied())
        .collect();
    let known: Vec<&str> = Kind::ALL.into_iter().map(|kind| aliases(kind)[0]).collect();
    let known = known.join(", ");
    match nearest(name, &all) {
        Some(near) => {
            format!("there is no kind `{name}`; did you mean `{near}`? Kinds are {known}, or `all`")
        }
        None => format!("there is no kind `{name}`; kinds are {known}, or `all`"),
    }
}
