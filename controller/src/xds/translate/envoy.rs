//! The dialect of stock Envoy: `docs/envoy.md` says what it carries. One file per kind of resource.
//!
//! As in the native dialect, a translation is a function of the mesh and a name. What is everybody's (services, their routes, clusters and endpoints)
//! is made once and shared by all Envoys; what is a workload's own (its inbound and outbound listeners, its application, its rules) carries its name.

pub(in crate::xds) mod action;
mod authorization;
mod callers;
mod chain;
mod cluster;
pub(super) mod endpoints;
mod http;
mod inbound;
mod outbound;
mod secret;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use xds_api::envoy::config::core::v3::TypedExtensionConfig;
use xds_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_api::envoy::config::route::v3::RouteConfiguration;
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::{Link, Translated, route, workload};
use crate::model::{Instance, Mesh, Name};
use crate::xds::names::{Application, Authorization, Callers, ListenerName, ServicePort};
use crate::xds::scope::Dialect;

/// The cluster of connections that leave the mesh, to where they were made to.
const PASSTHROUGH: &str = "passthrough";
/// The cluster without endpoints, for what must not be passed on.
const NOWHERE: &str = "nowhere";
/// The ending of the name of a cluster that carries opaque connections.
pub(in crate::xds) const OPAQUE: &str = "/tcp";

/// The resource of this name; `None` where the mesh has nothing of that name.
pub(crate) fn translate(mesh: &Mesh, kind: TypeUrl, name: &Arc<str>) -> Option<Translated> {
    let name = name.clone();
    match kind {
        TypeUrl::Listener => listener(mesh, name),
        TypeUrl::Route => {
            let port = ServicePort::parse(&name)?;
            route::translate(Dialect::Envoy, mesh, name, &port, None)
        }
        TypeUrl::Cluster => cluster::translate(mesh, name),
        TypeUrl::Endpoints => {
            endpoints::translate(mesh, name.clone(), &ServicePort::parse(&name)?, "")
        }
        TypeUrl::Secret => match Callers::parse(&name) {
            Some(callers) => callers::translate(mesh, name, &callers),
            None => secret::translate(mesh, name),
        },
        TypeUrl::Extension => {
            authorization::translate(mesh, name.clone(), &Authorization::parse(&name)?)
        }
    }
}

fn listener(mesh: &Mesh, name: Arc<str>) -> Option<Translated> {
    match ListenerName::parse(&name)? {
        ListenerName::Inbound(workload) => inbound::translate(mesh, name, &workload),
        ListenerName::Outbound(workload) => outbound::redirected(mesh, name, &workload),
        ListenerName::Address(address) => outbound::at_address(mesh, name, address),
        ListenerName::Upstream(workload, listen) => {
            outbound::explicit(mesh, name, &workload, listen)
        }
        _ => None,
    }
}

/// Where a client's view of the mesh begins: its own listeners, and those of every service.
pub(crate) fn roots(mesh: &Mesh, own: &Name) -> Vec<Link> {
    let mut names = vec![
        ListenerName::Inbound(own.clone()),
        ListenerName::Outbound(own.clone()),
    ];
    let described = workload::spec(mesh, own);
    let upstreams = described.iter().flat_map(|spec| &spec.upstreams);
    names.extend(upstreams.map(|one| ListenerName::Upstream(own.clone(), one.listen)));
    for (service, entry) in mesh.services() {
        for address in mesh.addresses_of(service) {
            let ports = entry.object.spec.ports.iter();
            names.extend(
                ports.map(|port| ListenerName::Address(SocketAddr::new(address, port.port))),
            );
        }
    }
    let mut links: Vec<Link> = names
        .into_iter()
        .map(|name| (TypeUrl::Listener, name.resource()))
        .collect();
    links.push((TypeUrl::Cluster, PASSTHROUGH.into()));
    links.push((TypeUrl::Cluster, NOWHERE.into()));
    links
}

/// What stands for a resource that was asked for and is not there. Envoy never gets ready on the removal of routes or of an extension, and answers
/// every request with 500 where an extension goes; without endpoints it waits (measured on 1.40).
pub(crate) fn placeholder(kind: TypeUrl, name: &Arc<str>) -> Option<Arc<Resource>> {
    Some(Arc::new(match kind {
        TypeUrl::Route => Resource::new(
            name.clone(),
            &RouteConfiguration {
                name: name.to_string(),
                ..Default::default()
            },
        ),
        TypeUrl::Endpoints => Resource::new(
            name.clone(),
            &ClusterLoadAssignment {
                cluster_name: name.to_string(),
                ..Default::default()
            },
        ),
        TypeUrl::Extension => {
            let authorization = Authorization::parse(name)?;
            let nobody = authorization::nobody(authorization.is_http);
            Resource::new(
                name.clone(),
                &TypedExtensionConfig {
                    name: name.to_string(),
                    typed_config: Some(nobody),
                },
            )
        }
        _ => return None,
    }))
}

/// The registered sidecar of a workload, where that is an Envoy.
fn registered<'a>(mesh: &'a Mesh, workload: &Name) -> Option<&'a Instance> {
    workload::instance(mesh, workload).filter(|instance| instance.envoy.is_some())
}

/// Where the Envoy beside a workload reaches the application.
fn application(instance: &Instance, port: u16) -> Option<SocketAddr> {
    let known = instance.port(port)?;
    match known.application.as_str() {
        "" => Some(SocketAddr::from(([127, 0, 0, 1], port))),
        text => text.parse().ok(),
    }
}

/// The name of an application's cluster.
fn application_cluster(workload: &Name, port: u16) -> String {
    let application = Application {
        workload: workload.clone(),
        port,
    };
    application.to_string()
}

#[cfg(test)]
mod tests;
