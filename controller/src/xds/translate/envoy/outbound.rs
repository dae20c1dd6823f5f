//! What an Envoy takes from its own workload: redirected connections, by the address that they were made to, and explicit listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use xds_api::envoy::config::core::v3::TrafficDirection;
use xds_api::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use xds_api::maille::v1::Protocol;
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::super::any::number;
use super::super::dial::address;
use super::super::protocol::{may_be_http, may_be_opaque, protocol_of};
use super::super::workload::spec;
use super::super::{Link, Translated};
use super::chain::{self, no, yes};
use super::{NOWHERE, OPAQUE, PASSTHROUGH, http, registered};
use crate::model::vip::ranges;
use crate::model::{Mesh, Name};
use crate::xds::names::ServicePort;

/// Where redirected connections arrive: each goes to the listener at the address that it was made to; what is meant for no service leaves the mesh,
/// but for addresses that exist only in it, and for this listener itself.
pub(super) fn redirected(mesh: &Mesh, name: Arc<str>, workload: &Name) -> Option<Translated> {
    let listeners = registered(mesh, workload)?.envoy.as_ref()?;
    let mut listener = chain::bound(&listeners.outbound)?;
    let own: SocketAddr = listeners.outbound.first()?.parse().ok()?;
    listener.name = name.to_string();
    listener.traffic_direction = TrafficDirection::Outbound as i32;
    listener.use_original_dst = yes();
    let nowhere = |name: &str, condition| FilterChain {
        name: name.to_owned(),
        filter_chain_match: Some(condition),
        filters: vec![chain::opaque(NOWHERE, NOWHERE)],
        ..Default::default()
    };
    let (v4, v6) = vip_ranges(mesh);
    let ranges = vec![
        chain::range(v4.network().into(), v4.prefix_len()),
        chain::range(v6.network().into(), v6.prefix_len()),
    ];
    listener.filter_chains = vec![
        nowhere(
            "itself",
            FilterChainMatch {
                destination_port: number(u32::from(own.port())),
                ..Default::default()
            },
        ),
        nowhere(
            "no service",
            FilterChainMatch {
                prefix_ranges: ranges,
                ..Default::default()
            },
        ),
    ];
    listener.default_filter_chain = Some(FilterChain {
        name: PASSTHROUGH.to_owned(),
        filters: vec![chain::opaque(PASSTHROUGH, PASSTHROUGH)],
        ..Default::default()
    });
    Some(Translated::new(Resource::new(name, &listener), Vec::new()))
}

/// A service's port at a virtual address; nothing is bound, connections come from `redirected`.
pub(super) fn at_address(mesh: &Mesh, name: Arc<str>, at: SocketAddr) -> Option<Translated> {
    let service = mesh.vip_owner(&at.ip())?.clone();
    let listener = Listener {
        address: address(at),
        bind_to_port: no(),
        ..Default::default()
    };
    let port = ServicePort {
        service,
        port: at.port(),
    };
    towards(mesh, name, &port, listener)
}

/// An explicit listener of a workload's description.
pub(super) fn explicit(
    mesh: &Mesh,
    name: Arc<str>,
    workload: &Name,
    listen: SocketAddr,
) -> Option<Translated> {
    registered(mesh, workload)?;
    let spec = spec(mesh, workload)?;
    let upstream = spec.upstreams.iter().find(|one| one.listen == listen)?;
    let namespace = upstream.service.namespace.as_deref();
    let port = ServicePort::new(
        namespace.unwrap_or(&workload.namespace),
        &upstream.service.name,
        upstream.service.port,
    );
    let listener = Listener {
        address: address(listen),
        ..Default::default()
    };
    towards(mesh, name, &port, listener)
}

/// Completes a listener for one port of a service.
fn towards(
    mesh: &Mesh,
    name: Arc<str>,
    port: &ServicePort,
    mut listener: Listener,
) -> Option<Translated> {
    let protocol = protocol_of(mesh, port)?;
    let target = port.to_string();
    let opaque_cluster = format!("{target}{OPAQUE}");
    let chain = |form: &str, filter| FilterChain {
        name: form.to_owned(),
        filters: vec![filter],
        ..Default::default()
    };
    let http = may_be_http(protocol).then(|| chain("http", http::outgoing(&target)));
    let opaque =
        may_be_opaque(protocol).then(|| chain("tcp", chain::opaque(&target, &opaque_cluster)));
    let mut links: Vec<Link> = Vec::new();
    links.extend(
        http.iter()
            .map(|_| (TypeUrl::Route, target.as_str().into())),
    );
    links.extend(
        opaque
            .iter()
            .map(|_| (TypeUrl::Cluster, opaque_cluster.as_str().into())),
    );
    listener.name = name.to_string();
    listener.traffic_direction = TrafficDirection::Outbound as i32;
    if protocol == Protocol::Detect {
        listener.listener_filters = vec![chain::http_inspector(None)];
        chain::wait_for_first_bytes(&mut listener);
        let seen = |mut chain: FilterChain| {
            chain.filter_chain_match = Some(FilterChainMatch {
                application_protocols: chain::HTTP.map(str::to_owned).to_vec(),
                ..Default::default()
            });
            chain
        };
        listener.filter_chains = http.into_iter().map(seen).collect();
        listener.default_filter_chain = opaque;
    } else {
        listener.filter_chains = http.into_iter().chain(opaque).collect();
    }
    Some(Translated::new(Resource::new(name, &listener), links))
}

fn vip_ranges(mesh: &Mesh) -> (Ipv4Net, Ipv6Net) {
    let settings = mesh.settings();
    let written = settings.map(|entry| entry.object.spec.vip_range.clone());
    ranges(&written.unwrap_or_default())
}
