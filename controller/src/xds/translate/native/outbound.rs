//! `out/…`: one port of a service as a client's listener.

use std::sync::Arc;

use xds_api::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, Rds, http_connection_manager::RouteSpecifier,
};
use xds_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use xds_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use xds_api::google::protobuf::Any;
use xds_api::maille::v1::Outbound;
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::super::Translated;
use super::super::any::{ads, metadata, pack};
use super::super::protocol::{may_be_http, may_be_opaque, protocol_of};
use crate::model::Mesh;
use crate::xds::names::ServicePort;

const HTTP_FILTER: &str = "envoy.filters.network.http_connection_manager";
const TCP_FILTER: &str = "envoy.filters.network.tcp_proxy";

pub(super) fn translate(mesh: &Mesh, name: Arc<str>, port: &ServicePort) -> Option<Translated> {
    let protocol = protocol_of(mesh, port)?;
    let target = port.resource();
    let outbound = Outbound {
        namespace: port.service.namespace.clone(),
        service: port.service.name.clone(),
        port: u32::from(port.port),
        protocol: protocol as i32,
    };
    let http = may_be_http(protocol).then(|| chain(HTTP_FILTER, http(&target)));
    let opaque = may_be_opaque(protocol).then(|| chain(TCP_FILTER, opaque(&target)));
    let routes = http.iter().map(|_| (TypeUrl::Route, target.clone()));
    let links = routes
        .chain(opaque.iter().map(|_| (TypeUrl::Cluster, target.clone())))
        .collect();
    let listener = Listener {
        name: name.to_string(),
        filter_chains: http.into_iter().collect(),
        default_filter_chain: opaque,
        metadata: metadata(&outbound),
        ..Default::default()
    };
    Some(Translated::new(Resource::new(name, &listener), links))
}

fn http(target: &str) -> Any {
    let rds = Rds {
        config_source: ads(),
        route_config_name: target.to_owned(),
    };
    pack(&HttpConnectionManager {
        stat_prefix: target.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        ..Default::default()
    })
}

fn opaque(target: &str) -> Any {
    pack(&TcpProxy {
        stat_prefix: target.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(target.to_owned())),
    })
}

fn chain(name: &str, config: Any) -> FilterChain {
    let config_type = Some(filter::ConfigType::TypedConfig(config));
    FilterChain {
        filters: vec![Filter {
            name: name.to_owned(),
            config_type,
        }],
        ..Default::default()
    }
}
