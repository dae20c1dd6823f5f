//! EDS: who serves one port of a service. What is not healthy is left out, as gRPC would; a place without a weight it would leave out, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use xds_api::envoy::config::core::v3::HealthStatus;
use xds_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use xds_api::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
};
use xds_api::resource::Resource;

use super::super::any::{locality, number};
use super::super::protocol::protocol_of;
use super::super::{Translated, dial};
use super::{NOWHERE, called};
use crate::model::{Endpoint, Health, Mesh, MeshMode};
use crate::xds::names::ServicePort;

pub(super) fn translate(mesh: &Mesh, name: Arc<str>, port: &ServicePort) -> Option<Translated> {
    protocol_of(mesh, port)?;
    let mut localities: BTreeMap<String, Vec<LbEndpoint>> = BTreeMap::new();
    for endpoint in called(mesh, port).endpoints {
        if let Some(one) = lb_endpoint(&endpoint) {
            localities.entry(endpoint.locality).or_default().push(one);
        }
    }
    Some(assignment(
        name,
        localities.into_iter().map(group).collect(),
    ))
}

/// Nobody.
pub(super) fn nowhere() -> Translated {
    assignment(NOWHERE.into(), Vec::new())
}

fn assignment(name: Arc<str>, endpoints: Vec<LocalityLbEndpoints>) -> Translated {
    let assignment = ClusterLoadAssignment {
        cluster_name: name.to_string(),
        endpoints,
    };
    Translated::new(Resource::new(name, &assignment), Vec::new())
}

/// Places share the requests by how many endpoints they have.
fn group((text, lb_endpoints): (String, Vec<LbEndpoint>)) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        // gRPC takes no place without a name, but an empty one.
        locality: Some(locality(&text).unwrap_or_default()),
        load_balancing_weight: number(u32::try_from(lb_endpoints.len()).unwrap_or(u32::MAX)),
        lb_endpoints,
        priority: 0,
    }
}

fn lb_endpoint(endpoint: &Endpoint) -> Option<LbEndpoint> {
    if endpoint.health != Health::Healthy {
        return None;
    }
    let hostname = match endpoint.mesh {
        MeshMode::None => String::new(),
        _ => dial::sni(endpoint.port),
    };
    let host = EnvoyEndpoint {
        address: dial::address(dial::at(endpoint)?),
        hostname,
    };
    Some(LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(host)),
        health_status: HealthStatus::Healthy as i32,
        ..Default::default()
    })
}
