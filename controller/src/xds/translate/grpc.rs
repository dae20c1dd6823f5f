//! The dialect of programs with gRPC's xDS in them: `docs/grpc.md` says what it carries. One file per kind of resource.
//!
//! A program asks for everything by its name. A client begins with the name that it calls, a server with the address that it is bound to; what a gRPC
//! library cannot do is left out where it is tuning, and refused where leaving it out would let through what must not be.

mod cluster;
pub(super) mod endpoints;
mod manager;
pub(super) mod route;
mod serving;
mod target;
mod tls;

use std::sync::Arc;

use xds_api::type_url::TypeUrl;

use super::Translated;
use crate::model::{Endpoint, Mesh, MeshMode};
use crate::xds::names::{ListenerName, ServicePort};

/// The cluster without endpoints, for the share of a service that does not exist.
const NOWHERE: &str = "nowhere";

/// The resource of this name; `None` where the mesh has nothing of that name.
pub(crate) fn translate(mesh: &Mesh, kind: TypeUrl, name: &Arc<str>) -> Option<Translated> {
    let name = name.clone();
    match kind {
        TypeUrl::Listener => match ListenerName::parse(&name)? {
            ListenerName::Target(port) => target::translate(mesh, name, &port),
            ListenerName::Serving(workload, at) => serving::translate(mesh, name, &workload, at),
            _ => None,
        },
        TypeUrl::Route => route::translate(mesh, name.clone(), &ServicePort::parse(&name)?, None),
        TypeUrl::Cluster if *name == *NOWHERE => Some(cluster::nowhere(mesh)),
        TypeUrl::Cluster => cluster::translate(mesh, name.clone(), &ServicePort::parse(&name)?),
        TypeUrl::Endpoints if *name == *NOWHERE => Some(endpoints::nowhere()),
        TypeUrl::Endpoints => {
            endpoints::translate(mesh, name.clone(), &ServicePort::parse(&name)?, "")
        }
        TypeUrl::Secret | TypeUrl::Extension => None,
    }
}

/// Whom a port of a service is called at.
struct Called {
    endpoints: Vec<Endpoint>,
    /// In clear text, for none of them is in the mesh.
    clear: bool,
}

/// A cluster of gRPC's has one transport socket. Beside endpoints in the mesh those outside are left out, rather than the other way round; and where
/// there is none at all, none can be called in clear text.
fn called(mesh: &Mesh, port: &ServicePort) -> Called {
    let mut endpoints = mesh.endpoints(&port.service, port.port);
    let meshed = |endpoint: &Endpoint| endpoint.mesh != MeshMode::None;
    let clear = !endpoints.is_empty() && !endpoints.iter().any(meshed);
    if !clear {
        endpoints.retain(meshed);
    }
    Called { endpoints, clear }
}

#[cfg(test)]
mod tests;
