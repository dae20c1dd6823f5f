//! Routes as they are shown: each parent with its conditions, found out when it is asked. Nothing of it is stored.

use serde_json::{Value, json};

use super::Shown;
use crate::model::{
    Mesh, Name, ObjectKey,
    kinds::http_route::{BackendRef, ParentRef},
    relations::routes::{Fault, RouteFault, faults, parent_path},
};

/// One of Gateway API's conditions.
struct Condition {
    kind: &'static str,
    /// Why it holds, or does not.
    reason: &'static str,
    /// What is wrong; empty where it holds.
    message: String,
}

impl Condition {
    fn new(
        kind: &'static str,
        fault: Option<&RouteFault>,
        reason: fn(Fault) -> &'static str,
    ) -> Self {
        Self {
            kind,
            reason: fault.map_or(kind, |fault| reason(fault.fault)),
            message: fault.map(|fault| fault.message.clone()).unwrap_or_default(),
        }
    }

    fn json(&self, changed_at: u64) -> Value {
        json!({
            "type": self.kind,
            "status": if self.message.is_empty() { "True" } else { "False" },
            "reason": self.reason,
            "message": self.message,
            "observedIndex": changed_at,
        })
    }
}

/// Why a parent does not take the route. That requests are routed by the other kind of route already has no reason of Gateway API's own.
const fn not_accepted(fault: Fault) -> &'static str {
    match fault {
        Fault::Missing => "NoMatchingParent",
        Fault::Opaque => "NotAllowedByListeners",
        Fault::Conflict => "RouteConflict",
    }
}

/// Every reference to a backend may be made, and all are to Services: `RefNotPermitted` and `InvalidKind` cannot be.
const fn not_resolved(_: Fault) -> &'static str {
    "BackendNotFound"
}

/// A route of any kind. `rules`: the backends of each; `without`: what one without backends does.
pub(super) fn shown<'a>(
    mesh: &Mesh,
    key: &ObjectKey,
    changed_at: u64,
    rules: impl Iterator<Item = &'a [BackendRef]>,
    without: &str,
) -> Shown {
    let faults = faults(mesh, key);
    let parents = mesh.parents_of(key);
    let about = |place: &str| faults.iter().find(|fault| fault.path.contains(place));
    let backends = about("backendRefs");
    let conditions: Vec<[Condition; 2]> = (0..parents.len())
        .map(|index| {
            let parent = about(&parent_path(index));
            [
                Condition::new("Accepted", parent, not_accepted),
                Condition::new("ResolvedRefs", backends, not_resolved),
            ]
        })
        .collect();
    let named: Vec<String> = parents
        .iter()
        .map(|parent| text(parent, &key.name))
        .collect();
    let reasons = named
        .iter()
        .zip(&conditions)
        .map(|(name, [accepted, resolved])| {
            format!("{name}: {}, {}", accepted.reason, resolved.reason)
        });
    let reasons: Vec<String> = reasons.collect();
    let status = parents.iter().zip(&conditions).map(|(parent, conditions)| {
        let conditions = conditions.iter().map(|one| one.json(changed_at));
        json!({
            "parentRef": parent,
            "controllerName": "maille.dev/controller",
            "conditions": conditions.collect::<Vec<_>>(),
        })
    });
    let status = json!({ "parents": status.collect::<Vec<_>>() });
    let rules: Vec<String> = rules.map(|backends| rule(backends, without)).collect();
    let resolved = if faults.is_empty() { "yes" } else { "no" };
    Shown {
        cells: vec![
            ("services", named.join(",")),
            ("backends by rule", rules.join(" | ")),
            ("resolved", resolved.to_owned()),
        ],
        wide: vec![("parents", reasons.join("; "))],
        status,
    }
}

fn rule(backends: &[BackendRef], without: &str) -> String {
    let named = |backend: &BackendRef| format!("{}:{}", backend.name, backend.weight);
    match backends {
        [] => without.to_owned(),
        some => some.iter().map(named).collect::<Vec<_>>().join(","),
    }
}

/// A parent as short as it can be said: with its namespace where that is another, with its port where one is named.
fn text(parent: &ParentRef, route: &Name) -> String {
    let service = parent.service(route);
    let mut text = match service.namespace == route.namespace {
        true => service.name,
        false => service.to_string(),
    };
    if let Some(port) = parent.port {
        text = format!("{text}:{port}");
    }
    text
}
