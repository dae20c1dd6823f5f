//! `serve/<namespace>/<workload>/<ip>:<port>`: what a server does at an address that it is bound to. It serves once it has this.
//!
//! One port takes either TLS or clear text, so here it takes mutual TLS, whatever else is permitted elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;

use xds_api::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use xds_api::envoy::config::route::v3::route::Action;
use xds_api::envoy::config::route::v3::{
    NonForwardingAction, Route, RouteConfiguration, VirtualHost,
};
use xds_api::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use xds_api::resource::Resource;

use super::super::any::pack;
use super::super::matching::route_match;
use super::super::workload::instance;
use super::super::{Translated, dial, rbac};
use super::manager::{filter as http_filter, manager};
use super::tls::downstream;
use crate::model::kinds::http_route::Match;
use crate::model::{Mesh, MeshMode, Name};
use crate::xds::names::Authorization;

/// Nothing for a workload that is not registered as a gRPC program, and for a port that it does not have.
pub(super) fn translate(
    mesh: &Mesh,
    name: Arc<str>,
    workload: &Name,
    at: SocketAddr,
) -> Option<Translated> {
    let instance = instance(mesh, workload).filter(|one| one.mesh() == MeshMode::Grpc)?;
    instance.port(at.port())?;
    let manager = manager(
        RouteSpecifier::RouteConfig(own(&name)),
        rules(mesh, workload, at.port()),
    );
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack(&manager))),
    };
    let listener = Listener {
        name: name.to_string(),
        address: dial::address(at),
        filter_chains: vec![FilterChain {
            filters: vec![filter],
            transport_socket: Some(downstream()),
            ..Default::default()
        }],
        ..Default::default()
    };
    Some(Translated::new(Resource::new(name, &listener), Vec::new()))
}

/// Every request is for the program itself.
fn own(name: &str) -> RouteConfiguration {
    let route = Route {
        r#match: Some(route_match(&Match::default())),
        action: Some(Action::NonForwardingAction(NonForwardingAction {})),
        ..Default::default()
    };
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: name.to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
        }],
    }
}

/// Denials, then allowances; none where everybody may.
fn rules(mesh: &Mesh, workload: &Name, port: u16) -> Vec<HttpFilter> {
    let half = |denies| {
        let half = Authorization {
            workload: workload.clone(),
            port,
            is_http: true,
            denies,
        };
        let rules = Some(rbac::half(mesh, &half)?);
        let name = if denies { "deny" } else { "allow" };
        Some(http_filter(name, pack(&HttpRbac { rules })))
    };
    [true, false].into_iter().filter_map(half).collect()
}
