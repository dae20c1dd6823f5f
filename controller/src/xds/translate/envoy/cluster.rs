//! CDS: services, over mutual TLS to meshed endpoints and in clear to others; the Envoy's own application; and the two ends that are none.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Name as MessageName;
use xds_api::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy, TransportSocketMatch,
};
use xds_api::envoy::config::cluster::v3::{CircuitBreakers, Cluster, OutlierDetection};
use xds_api::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions};
use xds_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use xds_api::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use xds_api::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use xds_api::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use xds_api::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use xds_api::google::protobuf::{Any, Struct};
use xds_api::maille::v1::Protocol;
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::super::any::{duration, number, pack};
use super::super::limits::{nearest, outliers, thresholds};
use super::super::policy::policy;
use super::super::protocol::{may_be_opaque, protocol_of};
use super::super::workload::{protocols, spec};
use super::super::{Translated, dial};
use super::endpoints::meshed;
use super::tls::{clear, upstream};
use super::{NOWHERE, OPAQUE, PASSTHROUGH, application, chain, registered};
use crate::model::Mesh;
use crate::xds::names::{self, Application, ServicePort};

/// An opaque connection in a TLS connection of its own.
const OPAQUE_FORM: &str = "maille-tcp";
/// For a connect on the same host, and out of the mesh.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Percent of the failures that ejection is about.
const ALL: u32 = 100;

pub(super) fn translate(mesh: &Mesh, name: Arc<str>) -> Option<Translated> {
    match &*name {
        PASSTHROUGH => Some(original_destination(name)),
        NOWHERE => Some(nowhere(name)),
        text => {
            if let Some(application) = Application::parse(text) {
                return own(mesh, name, &application);
            }
            match text.strip_suffix(OPAQUE) {
                Some(port) => service(mesh, name.clone(), &ServicePort::parse(port)?, true),
                None => service(mesh, name.clone(), &ServicePort::parse(text)?, false),
            }
        }
    }
}

/// A port of a service.
fn service(mesh: &Mesh, name: Arc<str>, port: &ServicePort, opaque: bool) -> Option<Translated> {
    let protocol = protocol_of(mesh, port)?;
    if opaque && !may_be_opaque(protocol) {
        return None;
    }
    let policy = policy(mesh, port);
    let endpoints = port.resource();
    let eds = EdsClusterConfig {
        eds_config: chain::ads(),
        service_name: endpoints.to_string(),
    };
    let alpn: &[&str] = if opaque { &[OPAQUE_FORM] } else { &[] };
    let cluster = Cluster {
        name: name.to_string(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(eds),
        connect_timeout: Some(duration(policy.connect_timeout)),
        lb_policy: nearest(&policy.balancer) as i32,
        circuit_breakers: thresholds(&policy).map(|thresholds| CircuitBreakers {
            thresholds: vec![thresholds],
        }),
        outlier_detection: policy.ejection.map(|ejection| OutlierDetection {
            enforcing_consecutive_gateway_failure: number(ALL),
            ..outliers(&ejection)
        }),
        transport_socket_matches: vec![
            TransportSocketMatch {
                name: "mesh".to_owned(),
                r#match: Some(meshed()),
                transport_socket: Some(upstream(&port.service, alpn)),
            },
            TransportSocketMatch {
                name: "clear".to_owned(),
                r#match: Some(Struct::default()),
                transport_socket: Some(clear()),
            },
        ],
        typed_extension_protocol_options: if opaque {
            BTreeMap::new()
        } else {
            spoken(follow())
        },
        ..Default::default()
    };
    let peers = names::peers(&port.service);
    let links = vec![
        (TypeUrl::Endpoints, endpoints.clone()),
        (TypeUrl::Secret, peers),
    ];
    let resource = Resource::new(name, &cluster).with_endpoints(endpoints);
    Some(Translated::new(resource, links))
}

/// The application behind an Envoy.
fn own(mesh: &Mesh, name: Arc<str>, application: &Application) -> Option<Translated> {
    let workload = &application.workload;
    let instance = registered(mesh, workload)?;
    let address = self::application(instance, application.port)?;
    let known = protocols(Some(instance), spec(mesh, workload));
    let options = match known.get(&application.port)? {
        Protocol::Http1 => Some(explicit(ProtocolConfig::HttpProtocolOptions(
            Http1ProtocolOptions {},
        ))),
        Protocol::Http2 | Protocol::Grpc => Some(explicit(ProtocolConfig::Http2ProtocolOptions(
            Http2ProtocolOptions {
                allow_connect: true,
            },
        ))),
        Protocol::Detect => Some(follow()),
        Protocol::Tcp | Protocol::Tls => None,
    };
    let cluster = Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        load_assignment: Some(one_endpoint(&name, address)),
        typed_extension_protocol_options: options.map(spoken).unwrap_or_default(),
        ..plain(&name)
    };
    Some(Translated::new(Resource::new(name, &cluster), Vec::new()))
}

fn original_destination(name: Arc<str>) -> Translated {
    let kind = ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32);
    let cluster = Cluster {
        cluster_discovery_type: Some(kind),
        lb_policy: LbPolicy::ClusterProvided as i32,
        ..plain(&name)
    };
    Translated::new(Resource::new(name, &cluster), Vec::new())
}

fn nowhere(name: Arc<str>) -> Translated {
    let kind = ClusterDiscoveryType::Type(DiscoveryType::Static as i32);
    let cluster = Cluster {
        cluster_discovery_type: Some(kind),
        ..plain(&name)
    };
    Translated::new(Resource::new(name, &cluster), Vec::new())
}

fn plain(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(chain::time(CONNECT_TIMEOUT)),
        ..Default::default()
    }
}

fn one_endpoint(cluster: &str, address: SocketAddr) -> ClusterLoadAssignment {
    let endpoint = Endpoint {
        address: dial::address(address),
        ..Default::default()
    };
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![endpoint],
            ..Default::default()
        }],
    }
}

/// HTTP as it came in. Over TLS the ALPN then says which.
fn follow() -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: None,
        http2_protocol_options: Some(Http2ProtocolOptions {
            allow_connect: true,
        }),
    })
}

fn explicit(protocol: ProtocolConfig) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(protocol),
    })
}

fn spoken(options: UpstreamProtocolOptions) -> BTreeMap<String, Any> {
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(options),
        ..Default::default()
    };
    BTreeMap::from([(HttpProtocolOptions::full_name(), pack(&options))])
}
