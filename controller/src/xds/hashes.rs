//! One hash a type over all that could be served, to compare controllers by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use xds_api::type_url::TypeUrl;

use super::cache::{Cache, Published};
use super::names::{self, ListenerName, ServicePort};
use crate::model::Mesh;

/// SHA-256 over name and version of every resource of the native dialect, by type.
pub(crate) fn resource_hashes(cache: &Cache, published: &Published) -> BTreeMap<String, String> {
    let hash = |kind: TypeUrl| {
        let mut hash = Context::new(&SHA256);
        for name in all_names(&published.mesh, kind) {
            if let Some(found) = cache.get(published, kind, &name) {
                hash.update(name.as_bytes());
                hash.update(&[0]);
                hash.update(found.resource.version().as_bytes());
            }
        }
        (kind.short().to_owned(), hex::encode(hash.finish()))
    };
    TypeUrl::ALL.into_iter().map(hash).collect()
}

pub(crate) fn all_names(mesh: &Mesh, kind: TypeUrl) -> BTreeSet<Arc<str>> {
    match kind {
        TypeUrl::Listener => listener_names(mesh),
        TypeUrl::Secret => BTreeSet::from([names::roots(mesh.trust_domain())]),
        TypeUrl::Extension => BTreeSet::new(),
        TypeUrl::Cluster | TypeUrl::Endpoints | TypeUrl::Route => {
            ports(mesh).map(|port| port.resource()).collect()
        }
    }
}

fn ports(mesh: &Mesh) -> impl Iterator<Item = ServicePort> + '_ {
    mesh.services().iter().flat_map(|(name, entry)| {
        let port = |port: u16| ServicePort {
            service: name.clone(),
            port,
        };
        entry
            .object
            .spec
            .ports
            .iter()
            .map(move |one| port(one.port))
    })
}

fn listener_names(mesh: &Mesh) -> BTreeSet<Arc<str>> {
    let workloads = mesh
        .workloads()
        .keys()
        .chain(mesh.instances().keys())
        .cloned();
    let hosts = mesh.services().keys().cloned().map(ListenerName::Host);
    let addresses = ports(mesh).flat_map(|port| {
        let vip = mesh.vips().get(&port.service);
        let addresses = vip.map(|vip| vip.addresses()).into_iter().flatten();
        addresses.map(move |address| ListenerName::Address(SocketAddr::new(address, port.port)))
    });
    workloads
        .map(ListenerName::Inbound)
        .chain(hosts)
        .chain(ports(mesh).map(ListenerName::Port))
        .chain(addresses)
        .map(|name| name.resource())
        .collect()
}
