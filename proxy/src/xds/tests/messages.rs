//! Resources of the native dialect as the server would send them.
#![allow(clippy::unwrap_used)]

use prost::{Message, Name};
use std::collections::BTreeMap;
use xds_api::envoy::config::cluster::v3::{self as cds, Cluster};
use xds_api::envoy::config::core::v3 as core;
use xds_api::envoy::config::endpoint::v3::{self as eds, ClusterLoadAssignment};
use xds_api::envoy::config::listener::v3::{self as lds, Listener};
use xds_api::envoy::config::route::v3::{self as rds, RouteConfiguration};
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3 as http;
use xds_api::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use xds_api::envoy::extensions::transport_sockets::tls::v3::{self as sds, Secret};
use xds_api::google::protobuf::{Any, Duration};
use xds_api::maille::v1;

pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec().into(),
    }
}

pub(crate) fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

pub(crate) fn metadata<M: Message + Name>(message: &M) -> Option<core::Metadata> {
    Some(core::Metadata {
        typed_filter_metadata: BTreeMap::from([("maille.v1".into(), any(message))]),
        ..Default::default()
    })
}

pub(crate) fn ads() -> Option<core::ConfigSource> {
    use core::config_source::ConfigSourceSpecifier::Ads;
    Some(core::ConfigSource {
        config_source_specifier: Some(Ads(core::AggregatedConfigSource {})),
        ..Default::default()
    })
}

/// `in/shop/web-1` of the given identity.
pub(crate) fn inbound(identity: &str, upstreams: Vec<v1::Upstream>) -> Listener {
    let inbound = v1::Inbound {
        namespace: "shop".into(),
        workload: "web-1".into(),
        identity: identity.into(),
        default_mtls: v1::Mtls::Strict.into(),
        upstreams,
        ..Default::default()
    };
    Listener {
        name: "in/shop/web-1".into(),
        metadata: metadata(&inbound),
        ..Default::default()
    }
}

pub(crate) fn host(addresses: &[&str]) -> Listener {
    let host = v1::Host {
        namespace: "shop".into(),
        service: "api".into(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ttl_seconds: 7,
    };
    Listener {
        name: "host/api.shop".into(),
        metadata: metadata(&host),
        ..Default::default()
    }
}

fn chain(filter: Any) -> lds::FilterChain {
    lds::FilterChain {
        filters: vec![lds::Filter {
            name: "only".into(),
            config_type: Some(lds::filter::ConfigType::TypedConfig(filter)),
        }],
        ..Default::default()
    }
}

fn outbound(name: &str, protocol: v1::Protocol) -> Listener {
    let outbound = v1::Outbound {
        namespace: "shop".into(),
        service: "api".into(),
        port: 80,
        protocol: protocol.into(),
    };
    Listener {
        name: name.into(),
        metadata: metadata(&outbound),
        ..Default::default()
    }
}

/// A listener whose HTTP takes the routes `routes`.
pub(crate) fn http_listener(name: &str, routes: &str) -> Listener {
    let manager = http::HttpConnectionManager {
        stat_prefix: name.into(),
        route_specifier: Some(http::http_connection_manager::RouteSpecifier::Rds(
            http::Rds {
                config_source: ads(),
                route_config_name: routes.into(),
            },
        )),
        ..Default::default()
    };
    Listener {
        filter_chains: vec![chain(any(&manager))],
        ..outbound(name, v1::Protocol::Http1)
    }
}

/// A listener of opaque bytes.
pub(crate) fn tcp_listener(name: &str, cluster: &str) -> Listener {
    let proxy = tcp::TcpProxy {
        stat_prefix: name.into(),
        cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(cluster.into())),
    };
    Listener {
        default_filter_chain: Some(chain(any(&proxy))),
        ..outbound(name, v1::Protocol::Tcp)
    }
}

pub(crate) fn prefix(prefix: &str) -> rds::RouteMatch {
    rds::RouteMatch {
        path_specifier: Some(rds::route_match::PathSpecifier::Prefix(prefix.into())),
        ..Default::default()
    }
}

pub(crate) fn to(cluster: &str) -> rds::RouteAction {
    rds::RouteAction {
        cluster_specifier: Some(rds::route_action::ClusterSpecifier::Cluster(cluster.into())),
        ..Default::default()
    }
}

pub(crate) fn route(r#match: rds::RouteMatch, action: rds::route::Action) -> rds::Route {
    rds::Route {
        r#match: Some(r#match),
        action: Some(action),
        ..Default::default()
    }
}

pub(crate) fn table(name: &str, routes: Vec<rds::Route>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.into(),
        virtual_hosts: vec![rds::VirtualHost {
            name: name.into(),
            domains: vec!["*".into()],
            routes,
        }],
    }
}

/// Everything to one cluster.
pub(crate) fn routes(name: &str, cluster: &str) -> RouteConfiguration {
    let action = rds::route::Action::Route(to(cluster));
    table(name, vec![route(prefix("/"), action)])
}

pub(crate) fn cluster(name: &str) -> Cluster {
    let destination = v1::Destination {
        namespace: "shop".into(),
        service: "api".into(),
        port: 80,
        ..Default::default()
    };
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(cds::cluster::ClusterDiscoveryType::Type(
            cds::cluster::DiscoveryType::Eds.into(),
        )),
        eds_cluster_config: Some(cds::cluster::EdsClusterConfig {
            eds_config: ads(),
            service_name: String::new(),
        }),
        connect_timeout: Some(seconds(5)),
        metadata: metadata(&destination),
        ..Default::default()
    }
}

pub(crate) fn endpoint(address: &str, extra: &v1::EndpointExtra) -> eds::LbEndpoint {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let socket = core::SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(
            address.port().into(),
        )),
    };
    let endpoint = eds::Endpoint {
        address: Some(core::Address {
            address: Some(core::address::Address::SocketAddress(socket)),
        }),
        ..Default::default()
    };
    eds::LbEndpoint {
        host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        health_status: core::HealthStatus::Healthy.into(),
        metadata: metadata(extra),
        load_balancing_weight: None,
    }
}

/// A native endpoint.
pub(crate) fn native() -> v1::EndpointExtra {
    v1::EndpointExtra {
        namespace: "shop".into(),
        workload: "api-1".into(),
        mesh: v1::Mesh::Native.into(),
        mesh_port: 4743,
        identity: crate::fakes::spiffe("shop", "api"),
        ..Default::default()
    }
}

pub(crate) fn endpoints(name: &str, addresses: &[&str]) -> ClusterLoadAssignment {
    let one = |address: &&str| endpoint(address, &native());
    ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: vec![eds::LocalityLbEndpoints {
            locality: Some(core::Locality {
                region: "eu".into(),
                zone: "a".into(),
                ..Default::default()
            }),
            lb_endpoints: addresses.iter().map(one).collect(),
            ..Default::default()
        }],
    }
}

pub(crate) fn secret(name: &str, pem: &str) -> Secret {
    let source = core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineBytes(
            pem.to_owned().into(),
        )),
    };
    Secret {
        name: name.into(),
        r#type: Some(sds::secret::Type::ValidationContext(
            sds::CertificateValidationContext {
                trusted_ca: Some(source),
                ..Default::default()
            },
        )),
    }
}
