//! CDS: how one port of a service is called. Of a policy's ways gRPC has the nearest.

use std::sync::Arc;

use xds_api::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use xds_api::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use xds_api::envoy::config::cluster::v3::{CircuitBreakers, Cluster, OutlierDetection};
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::super::Translated;
use super::super::any::{ads, here, number};
use super::super::dial::identities;
use super::super::limits::outliers;
use super::super::policy::policy;
use super::super::protocol::protocol_of;
use super::tls::upstream;
use super::{NOWHERE, called};
use crate::model::Mesh;
use crate::model::kinds::traffic_policy::Ejection;
use crate::xds::names::ServicePort;

/// gRPC ejects whose failures are more than this share, in percent: who has failed throughout an interval.
const NEARLY_ALL: u32 = 99;
/// The only endpoint is never ejected.
const SEVERAL: u32 = 2;
/// Percent of those that are to be ejected.
const EVERY: u32 = 100;

pub(super) fn translate(mesh: &Mesh, name: Arc<str>, port: &ServicePort) -> Option<Translated> {
    protocol_of(mesh, port)?;
    let policy = policy(mesh, port);
    let called = called(mesh, port);
    let lb_policy = match policy.balancer.algorithm.hashes() {
        true => LbPolicy::RingHash,
        false => LbPolicy::RoundRobin,
    };
    let bound = |limit: u32| CircuitBreakers {
        thresholds: vec![Thresholds {
            max_requests: number(limit),
            ..Default::default()
        }],
    };
    let cluster = Cluster {
        lb_policy: lb_policy as i32,
        circuit_breakers: policy.limits.max_requests.map(bound),
        outlier_detection: policy.ejection.as_ref().map(failing),
        transport_socket: (!called.clear).then(|| upstream(identities(mesh, called.endpoints))),
        ..plain(&name)
    };
    Some(translated(name, &cluster))
}

/// Requests that have nowhere to go fail at once: for a cluster that is missing gRPC waits.
pub(super) fn nowhere(mesh: &Mesh) -> Translated {
    let cluster = Cluster {
        transport_socket: Some(upstream(identities(mesh, []))),
        ..plain(NOWHERE)
    };
    translated(NOWHERE.into(), &cluster)
}

fn plain(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: String::new(),
        }),
        lrs_server: Some(here()),
        ..Default::default()
    }
}

fn translated(name: Arc<str>, cluster: &Cluster) -> Translated {
    let links = vec![(TypeUrl::Endpoints, name.clone())];
    let resource = Resource::new(name.clone(), cluster).with_endpoints(name);
    Translated::new(resource, links)
}

/// gRPC counts no errors in a row: who has failed in all of as many calls within an interval is ejected.
fn failing(ejection: &Ejection) -> OutlierDetection {
    let general = outliers(ejection);
    OutlierDetection {
        interval: general.interval,
        base_ejection_time: general.base_ejection_time,
        max_ejection_time: general.max_ejection_time,
        max_ejection_percent: general.max_ejection_percent,
        enforcing_success_rate: number(0),
        failure_percentage_threshold: number(NEARLY_ALL),
        enforcing_failure_percentage: number(EVERY),
        failure_percentage_minimum_hosts: number(SEVERAL),
        failure_percentage_request_volume: number(ejection.consecutive_errors),
        ..Default::default()
    }
}
