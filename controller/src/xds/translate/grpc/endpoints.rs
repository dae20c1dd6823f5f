//! EDS: who serves one port of a service. What is not healthy is left out, as gRPC would; a place without a weight it would leave out, too.

use std::sync::Arc;

use xds_api::envoy::config::core::v3::HealthStatus;
use xds_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use xds_api::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
};
use xds_api::resource::Resource;

use super::super::any::number;
use super::super::protocol::protocol_of;
use super::super::{Translated, dial, nearness};
use super::{NOWHERE, called};
use crate::model::{Endpoint, Health, Mesh, MeshMode};
use crate::xds::names::ServicePort;

/// As clients of the locality `here` see them.
pub(in crate::xds::translate) fn translate(
    mesh: &Mesh,
    name: Arc<str>,
    port: &ServicePort,
    here: &str,
) -> Option<Translated> {
    protocol_of(mesh, port)?;
    let here = nearness::matters(mesh, port, here);
    let endpoints = called(mesh, port).endpoints.into_iter();
    let endpoints = endpoints.filter_map(|one| Some((one.locality.clone(), lb_endpoint(&one)?)));
    let groups = nearness::groups(here, endpoints).into_iter();
    Some(assignment(name, groups.map(weighted).collect()))
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

/// Places of one priority share the requests by how many endpoints they have.
fn weighted(group: LocalityLbEndpoints) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        // gRPC takes no place without a name, but an empty one.
        locality: Some(group.locality.unwrap_or_default()),
        load_balancing_weight: number(u32::try_from(group.lb_endpoints.len()).unwrap_or(u32::MAX)),
        ..group
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
