//! CDS: how one port of a service is called.

use std::sync::Arc;

use xds_api::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use xds_api::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use xds_api::maille::v1::{self, Destination};
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::super::Translated;
use super::super::any::{ads, duration, metadata};
use super::super::limits::{nearest, outliers, thresholds};
use super::super::policy::policy;
use crate::model::Mesh;
use crate::model::kinds::traffic_policy::{Algorithm, Balancer};
use crate::xds::names::ServicePort;

pub(super) fn translate(mesh: &Mesh, name: Arc<str>, port: &ServicePort) -> Option<Translated> {
    mesh.services()
        .get(&port.service)?
        .object
        .spec
        .port(port.port)?;
    let policy = policy(mesh, port);
    let destination = Destination {
        namespace: port.service.namespace.clone(),
        service: port.service.name.clone(),
        port: u32::from(port.port),
        balancer: balancer(&policy.balancer) as i32,
        hash_header: hash_header(&policy.balancer),
    };
    let eds = EdsClusterConfig {
        eds_config: ads(),
        service_name: String::new(),
    };
    let cluster = Cluster {
        name: name.to_string(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(eds),
        connect_timeout: Some(duration(policy.connect_timeout)),
        lb_policy: nearest(&policy.balancer) as i32,
        circuit_breakers: thresholds(&policy).map(|thresholds| CircuitBreakers {
            thresholds: vec![thresholds],
        }),
        outlier_detection: policy.ejection.map(|ejection| outliers(&ejection)),
        metadata: metadata(&destination),
        ..Default::default()
    };
    let resource = Resource::new(name.clone(), &cluster).with_endpoints(name.clone());
    Some(Translated::new(resource, vec![(TypeUrl::Endpoints, name)]))
}

fn balancer(balancer: &Balancer) -> v1::Balancer {
    match balancer.algorithm {
        Algorithm::PeakEwma => v1::Balancer::PeakEwma,
        Algorithm::LeastRequest => v1::Balancer::LeastRequest,
        Algorithm::RoundRobin => v1::Balancer::RoundRobin,
        Algorithm::RingHash => v1::Balancer::RingHash,
        Algorithm::Maglev => v1::Balancer::Maglev,
    }
}

fn hash_header(balancer: &Balancer) -> String {
    let header = balancer
        .hash_header
        .clone()
        .filter(|_| balancer.algorithm.hashes());
    header.unwrap_or_default()
}
