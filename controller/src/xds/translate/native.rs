//! The native dialect: `docs/native-dialect.md` is its contract. One file per kind of resource.
//!
//! A translation is a function of the mesh and a name. It reads no clock and keeps no order but the mesh's own, so that
//! equal meshes give equal bytes on every controller.

mod cluster;
mod endpoints;
mod host;
mod inbound;
mod outbound;
mod secret;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use xds_api::type_url::TypeUrl;

use super::{Translated, route};
use crate::model::Mesh;
use crate::xds::names::{ListenerName, ServicePort};
use crate::xds::scope::Dialect;

/// The resource of this name; `None` where the mesh has nothing of that name.
pub(crate) fn translate(mesh: &Mesh, kind: TypeUrl, name: &Arc<str>) -> Option<Translated> {
    let name = name.clone();
    match kind {
        TypeUrl::Listener => match ListenerName::parse(&name)? {
            ListenerName::Inbound(workload) => inbound::translate(mesh, name, &workload),
            ListenerName::Host(service) => host::translate(mesh, name, &service),
            ListenerName::Port(port) => outbound::translate(mesh, name, &port),
            ListenerName::Address(address) => {
                let service = mesh.vip_owner(&address.ip())?.clone();
                outbound::translate(
                    mesh,
                    name,
                    &ServicePort {
                        service,
                        port: address.port(),
                    },
                )
            }
            _ => None,
        },
        TypeUrl::Route => {
            let port = ServicePort::parse(&name)?;
            route::translate(Dialect::Native, mesh, name, &port, None)
        }
        TypeUrl::Cluster => cluster::translate(mesh, name.clone(), &ServicePort::parse(&name)?),
        TypeUrl::Endpoints => endpoints::translate(mesh, name.clone(), &ServicePort::parse(&name)?),
        TypeUrl::Secret => secret::translate(mesh, name),
        TypeUrl::Extension => None,
    }
}
