//! EDS: who serves one port of a service. A meshed endpoint is called at its mesh port, with the target port in the SNI; a gRPC server at its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use xds_api::envoy::config::core::v3::{HealthStatus, Metadata};
use xds_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use xds_api::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint,
};
use xds_api::google::protobuf::{Struct, Value, value};
use xds_api::resource::Resource;

use super::super::dial::{self, address};
use super::super::{Translated, nearness};
use crate::model::{Endpoint, Health, Mesh, MeshMode};
use crate::xds::names::ServicePort;

/// Where Envoy looks for what decides between transport sockets.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// As clients of the locality `here` see them.
pub(in crate::xds::translate) fn translate(
    mesh: &Mesh,
    name: Arc<str>,
    port: &ServicePort,
    here: &str,
) -> Option<Translated> {
    mesh.services()
        .get(&port.service)?
        .object
        .spec
        .port(port.port)?;
    let here = nearness::matters(mesh, port, here);
    let endpoints = mesh.endpoints(&port.service, port.port).into_iter();
    let endpoints = endpoints.filter_map(|one| Some((one.locality.clone(), lb_endpoint(&one)?)));
    let assignment = ClusterLoadAssignment {
        cluster_name: name.to_string(),
        endpoints: nearness::groups(here, endpoints),
    };
    Some(Translated::new(
        Resource::new(name, &assignment),
        Vec::new(),
    ))
}

/// What marks an endpoint that is called over mutual TLS.
pub(super) fn meshed() -> Struct {
    let mark = Value {
        kind: Some(value::Kind::StringValue("tls".to_owned())),
    };
    Struct {
        fields: BTreeMap::from([("maille".to_owned(), mark)]),
    }
}

/// Nothing where the health is not known yet: such an endpoint gets no traffic.
fn lb_endpoint(endpoint: &Endpoint) -> Option<LbEndpoint> {
    let health = match endpoint.health {
        Health::Unknown => return None,
        Health::Healthy => HealthStatus::Healthy,
        Health::Unhealthy => HealthStatus::Unhealthy,
    };
    let is_meshed = endpoint.mesh != MeshMode::None;
    let host = EnvoyEndpoint {
        address: address(dial::at(endpoint)?),
        hostname: if is_meshed {
            dial::sni(endpoint.port)
        } else {
            String::new()
        },
    };
    let metadata = is_meshed.then(|| Metadata {
        filter_metadata: BTreeMap::from([(SOCKET_MATCH.to_owned(), meshed())]),
        ..Default::default()
    });
    Some(LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(host)),
        health_status: health as i32,
        metadata,
        load_balancing_weight: None,
    })
}
