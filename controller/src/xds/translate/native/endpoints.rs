//! EDS: who serves one port of a service.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use xds_api::envoy::config::core::v3::HealthStatus;
use xds_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use xds_api::envoy::config::endpoint::v3::{
    self as envoy, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints,
};
use xds_api::maille::v1::{self, EndpointExtra};
use xds_api::resource::Resource;

use super::super::Translated;
use super::super::any::{locality, metadata};
use super::super::dial;
use crate::model::{Endpoint, Health, Mesh, MeshMode};
use crate::xds::names::ServicePort;

pub(super) fn translate(mesh: &Mesh, name: Arc<str>, port: &ServicePort) -> Option<Translated> {
    mesh.services()
        .get(&port.service)?
        .object
        .spec
        .port(port.port)?;
    let mut localities: BTreeMap<String, Vec<LbEndpoint>> = BTreeMap::new();
    for endpoint in mesh.endpoints(&port.service, port.port) {
        if let Some(one) = lb_endpoint(&endpoint) {
            localities.entry(endpoint.locality).or_default().push(one);
        }
    }
    let group = |(text, lb_endpoints): (String, Vec<LbEndpoint>)| LocalityLbEndpoints {
        locality: locality(&text),
        lb_endpoints,
        ..Default::default()
    };
    let assignment = ClusterLoadAssignment {
        cluster_name: name.to_string(),
        endpoints: localities.into_iter().map(group).collect(),
    };
    Some(Translated::new(
        Resource::new(name, &assignment),
        Vec::new(),
    ))
}

/// Nothing where the health is not known yet: such an endpoint gets no traffic.
fn lb_endpoint(endpoint: &Endpoint) -> Option<LbEndpoint> {
    let health = match endpoint.health {
        Health::Unknown => return None,
        Health::Healthy => HealthStatus::Healthy,
        Health::Unhealthy => HealthStatus::Unhealthy,
    };
    let at = SocketAddr::new(*endpoint.addresses.first()?, endpoint.port);
    let host = envoy::Endpoint {
        address: dial::address(at),
        ..Default::default()
    };
    let extra = EndpointExtra {
        namespace: endpoint.name.namespace.clone(),
        workload: endpoint.name.name.clone(),
        mesh: mesh_mode(endpoint.mesh) as i32,
        mesh_port: u32::from(endpoint.mesh_port),
        identity: endpoint.identity.clone(),
        cluster: String::new(),
        network: String::new(),
    };
    Some(LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(host)),
        health_status: health as i32,
        metadata: metadata(&extra),
        load_balancing_weight: None,
    })
}

fn mesh_mode(mode: MeshMode) -> v1::Mesh {
    match mode {
        MeshMode::None => v1::Mesh::None,
        MeshMode::Native => v1::Mesh::Native,
        MeshMode::Envoy => v1::Mesh::Envoy,
        MeshMode::Grpc => v1::Mesh::Grpc,
    }
}
