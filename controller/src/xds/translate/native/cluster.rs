//! CDS: how one port of a service is called.

use std::sync::Arc;

use xds_api::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use xds_api::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget;
use xds_api::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use xds_api::envoy::config::cluster::v3::{CircuitBreakers, Cluster, OutlierDetection};
use xds_api::envoy::r#type::v3::Percent;
use xds_api::maille::v1::{self, Destination};
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::super::Translated;
use super::any::{ads, duration, metadata, number};
use super::policy::{Policy, policy};
use crate::model::Mesh;
use crate::model::kinds::Duration;
use crate::model::kinds::traffic_policy::{self, Algorithm, Balancer, Ejection};
use crate::xds::names::ServicePort;

/// Retries at once as a share of the requests at once, where a policy has retries and says nothing: Envoy's own default.
const BUDGET_PERCENT: u32 = 20;
/// Retries that may run whatever the share, so that a quiet service is retried at all: Envoy's own default.
const BUDGET_FLOOR: u32 = 3;
/// Ejection, where a policy leaves it out: Envoy's times, and half of the endpoints, since small services have few.
const EJECTION_INTERVAL: Duration = Duration::from_secs(10);
const EJECTION_BASE: Duration = Duration::from_secs(30);
const EJECTION_MAX: Duration = Duration::from_secs(300);
const EJECTION_PERCENT: u32 = 50;

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

fn nearest(balancer: &Balancer) -> LbPolicy {
    match balancer.algorithm {
        Algorithm::PeakEwma | Algorithm::LeastRequest => LbPolicy::LeastRequest,
        Algorithm::RoundRobin => LbPolicy::RoundRobin,
        Algorithm::RingHash => LbPolicy::RingHash,
        Algorithm::Maglev => LbPolicy::Maglev,
    }
}

fn hash_header(balancer: &Balancer) -> String {
    let header = balancer
        .hash_header
        .clone()
        .filter(|_| balancer.algorithm.hashes());
    header.unwrap_or_default()
}

fn thresholds(policy: &Policy) -> Option<Thresholds> {
    let wrap = |limit: Option<u32>| limit.and_then(number);
    let thresholds = Thresholds {
        max_connections: wrap(policy.limits.max_connections),
        max_pending_requests: wrap(policy.limits.max_pending_requests),
        max_requests: wrap(policy.limits.max_requests),
        retry_budget: policy
            .retries
            .as_ref()
            .map(|retries| budget(retries.budget)),
    };
    (thresholds != Thresholds::default()).then_some(thresholds)
}

fn budget(written: Option<traffic_policy::RetryBudget>) -> RetryBudget {
    let percent = written.map_or(BUDGET_PERCENT, |budget| budget.percent);
    let floor = written.and_then(|budget| budget.min_concurrency);
    RetryBudget {
        budget_percent: Some(Percent {
            value: f64::from(percent),
        }),
        min_retry_concurrency: number(floor.unwrap_or(BUDGET_FLOOR)),
    }
}

fn outliers(ejection: &Ejection) -> OutlierDetection {
    let time = |written: Option<Duration>, default| Some(duration(written.unwrap_or(default)));
    OutlierDetection {
        consecutive_5xx: number(ejection.consecutive_errors),
        interval: time(ejection.interval, EJECTION_INTERVAL),
        base_ejection_time: time(ejection.base_time, EJECTION_BASE),
        max_ejection_percent: number(ejection.max_percent.unwrap_or(EJECTION_PERCENT)),
        consecutive_gateway_failure: number(ejection.consecutive_errors),
        max_ejection_time: time(ejection.max_time, EJECTION_MAX),
    }
}
