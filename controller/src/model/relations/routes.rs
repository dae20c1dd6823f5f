//! Whether a route fits to the mesh: its parents, its backends, and the routes beside it.

use super::{Reference, lookup};
use crate::model::{
    Mesh, ObjectKey,
    kinds::{Object, ServiceSpec, http_route::ParentRef},
};

/// In which way something of a route does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such service, or it has no such port.
    Missing,
    /// The port carries no requests.
    Opaque,
    /// A route of the other kind is attached to the port.
    Conflict,
}

/// Something of a route that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFault {
    /// In which way.
    pub fault: Fault,
    /// The field.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything of a route that does not hold.
pub fn faults(mesh: &Mesh, key: &ObjectKey) -> Vec<RouteFault> {
    let mut found = Vec::new();
    for reference in parents(mesh, key) {
        match lookup(mesh, &reference) {
            Ok(service) => {
                found.extend(opaque(&reference, service));
                found.extend(conflict(mesh, key, &reference));
            }
            Err((path, message)) => found.push(RouteFault {
                fault: Fault::Missing,
                path,
                message,
            }),
        }
    }
    let missing = backends(mesh, key)
        .into_iter()
        .filter_map(|reference| lookup(mesh, &reference).err());
    found.extend(missing.map(|(path, message)| RouteFault {
        fault: Fault::Missing,
        path,
        message,
    }));
    found
}

/// A route to a port that carries no requests would never be tried.
fn opaque(reference: &Reference, service: &Object<ServiceSpec>) -> Option<RouteFault> {
    let chosen = |port: u16| reference.port.is_none_or(|wanted| wanted == port);
    let mut ports = service.spec.ports.iter().filter(|port| chosen(port.port));
    let opaque = |protocol: &crate::model::kinds::AppProtocol| !protocol.is_http();
    let all = ports.all(|port| port.app_protocol.as_ref().is_some_and(opaque));
    all.then(|| RouteFault {
        fault: Fault::Opaque,
        path: reference.path.clone(),
        message: format!(
            "Service {} declares no HTTP port here, so no request would reach this route; set its appProtocol to http, http2 or grpc",
            reference.service
        ),
    })
}

/// The requests of one port are routed by HTTPRoutes or by GRPCRoutes of a namespace. Gateway API keeps the older one; here the later is not written.
fn conflict(mesh: &Mesh, key: &ObjectKey, reference: &Reference) -> Option<RouteFault> {
    let rival = |other: &&ObjectKey| {
        let shares = |parent: &ParentRef| {
            let ports = parent.port.zip(reference.port);
            parent.service(&other.name) == reference.service && ports.is_none_or(|(a, b)| a == b)
        };
        other.kind() != key.kind()
            && other.name.namespace == key.name.namespace
            && mesh.parents_of(other).iter().any(shares)
    };
    let other = mesh.attached(&reference.service).find(rival)?;
    let what = match reference.port {
        Some(port) => format!("port {port} of Service {}", reference.service),
        None => format!("Service {}", reference.service),
    };
    Some(RouteFault {
        fault: Fault::Conflict,
        path: reference.path.clone(),
        message: format!(
            "{other} is attached to {what} too, and a port takes HTTPRoutes or GRPCRoutes, not both; name other ports, or delete it first"
        ),
    })
}

/// Where a parent of a route stands in it.
pub fn parent_path(index: usize) -> String {
    format!("spec.parentRefs[{index}]")
}

fn parents(mesh: &Mesh, route: &ObjectKey) -> Vec<Reference> {
    let reference = |(index, parent): (usize, &ParentRef)| Reference {
        service: parent.service(&route.name),
        port: parent.port,
        path: parent_path(index),
    };
    let parents = mesh.parents_of(route).iter().enumerate();
    parents.map(reference).collect()
}

fn backends(mesh: &Mesh, route: &ObjectKey) -> Vec<Reference> {
    let backends = mesh.backends_of(route).into_iter();
    backends
        .map(|(rule, index, backend)| Reference {
            service: backend.service(&route.name),
            port: Some(backend.port),
            path: format!("spec.rules[{rule}].backendRefs[{index}]"),
        })
        .collect()
}

/// Everything that a route refers to.
pub(super) fn references(mesh: &Mesh, route: &ObjectKey) -> Vec<Reference> {
    let mut all = parents(mesh, route);
    all.extend(backends(mesh, route));
    all
}
