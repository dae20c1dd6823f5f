//! `host/<service>.<namespace>`: what DNS answers, and the listeners behind the addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use xds_api::envoy::config::listener::v3::Listener;
use xds_api::maille::v1::Host;
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::super::Translated;
use super::super::any::metadata;
use crate::model::{Mesh, Name};
use crate::xds::names::ListenerName;

/// How long a resolver may keep an answer where the settings say nothing.
const DEFAULT_TTL_SECONDS: u32 = 5;

pub(super) fn translate(mesh: &Mesh, name: Arc<str>, service: &Name) -> Option<Translated> {
    let spec = &mesh.services().get(service)?.object.spec;
    let addresses = mesh
        .vips()
        .get(service)
        .map(|vip| vip.addresses().to_vec())
        .unwrap_or_default();
    let host = Host {
        namespace: service.namespace.clone(),
        service: service.name.clone(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ttl_seconds: ttl_seconds(mesh),
    };
    let listener = Listener {
        name: name.to_string(),
        metadata: metadata(&host),
        ..Default::default()
    };
    let ports = || spec.ports.iter().map(|port| port.port);
    let at =
        |address| ports().map(move |port| ListenerName::Address(SocketAddr::new(address, port)));
    let links = addresses.iter().copied().flat_map(at);
    let links = links
        .map(|name| (TypeUrl::Listener, name.resource()))
        .collect();
    Some(Translated::new(Resource::new(name, &listener), links))
}

fn ttl_seconds(mesh: &Mesh) -> u32 {
    let ttl = mesh.settings().and_then(|entry| entry.object.spec.dns.ttl);
    let seconds = ttl.map(|ttl| ttl.get().as_secs());
    seconds.map_or(DEFAULT_TTL_SECONDS, |seconds| {
        u32::try_from(seconds).unwrap_or(u32::MAX)
    })
}
