//! A traffic policy in the words of a cluster: balancing, bounds, ejection.

use xds_api::envoy::config::cluster::v3::OutlierDetection;
use xds_api::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use xds_api::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget;
use xds_api::envoy::config::cluster::v3::cluster::LbPolicy;
use xds_api::envoy::r#type::v3::Percent;

use super::any::{duration, number};
use super::policy::Policy;
use crate::model::kinds::Duration;
use crate::model::kinds::traffic_policy::{self, Algorithm, Balancer, Ejection};

/// Retries at once as a share of the requests at once, where a policy has retries and says nothing: Envoy's own default.
const BUDGET_PERCENT: u32 = 20;
/// Retries that may run whatever the share, so that a quiet service is retried at all: Envoy's own default.
const BUDGET_FLOOR: u32 = 3;
/// Ejection, where a policy leaves it out: Envoy's times, and half of the endpoints, since small services have few.
const EJECTION_INTERVAL: Duration = Duration::from_secs(10);
const EJECTION_BASE: Duration = Duration::from_secs(30);
const EJECTION_MAX: Duration = Duration::from_secs(300);
const EJECTION_PERCENT: u32 = 50;

/// Envoy's policy that is nearest.
pub(in crate::xds) fn nearest(balancer: &Balancer) -> LbPolicy {
    match balancer.algorithm {
        Algorithm::PeakEwma | Algorithm::LeastRequest => LbPolicy::LeastRequest,
        Algorithm::RoundRobin => LbPolicy::RoundRobin,
        Algorithm::RingHash => LbPolicy::RingHash,
        Algorithm::Maglev => LbPolicy::Maglev,
    }
}

/// What a cluster may be asked at once; `None`: Envoy's own bounds.
pub(in crate::xds) fn thresholds(policy: &Policy) -> Option<Thresholds> {
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

/// When an endpoint that fails is left alone.
pub(in crate::xds) fn outliers(ejection: &Ejection) -> OutlierDetection {
    let time = |written: Option<Duration>, default| Some(duration(written.unwrap_or(default)));
    OutlierDetection {
        consecutive_5xx: number(ejection.consecutive_errors),
        interval: time(ejection.interval, EJECTION_INTERVAL),
        base_ejection_time: time(ejection.base_time, EJECTION_BASE),
        max_ejection_percent: number(ejection.max_percent.unwrap_or(EJECTION_PERCENT)),
        consecutive_gateway_failure: number(ejection.consecutive_errors),
        max_ejection_time: time(ejection.max_time, EJECTION_MAX),
        ..Default::default()
    }
}
