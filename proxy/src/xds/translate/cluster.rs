//! How one port of a service is reached.

use super::foreign;
use super::strict::{
    Invalid, Within, check_ads, check_name, decode, duration, invalid, metadata, not_empty,
    optional_duration, port, present,
};
use crate::snapshot::{Balancing, Cluster, HashKey, Limits, Outlier, RetryBudget};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use xds_api::envoy::config::cluster::v3 as envoy;
use xds_api::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use xds_api::google::protobuf::UInt32Value;
use xds_api::maille::v1;

/// Where an outlier detection leaves something out: Envoy's own defaults.
const INTERVAL: Duration = Duration::from_secs(10);
const EJECTION: Duration = Duration::from_secs(30);
const LONGEST_EJECTION: Duration = Duration::from_secs(300);
const EJECTED_PERCENT: u32 = 10;

pub(super) fn translate(name: &Arc<str>, body: Bytes) -> Result<Cluster, Invalid> {
    let cluster: envoy::Cluster = decode(body)?;
    foreign::check(&cluster)?;
    check_name("name", &cluster.name, name)?;
    check_discovery(&cluster, name)?;
    let destination: v1::Destination = metadata(cluster.metadata)?;
    not_empty("namespace", &destination.namespace)?;
    not_empty("service", &destination.service)?;
    let timeout = present("connect_timeout", cluster.connect_timeout)?;
    let connect_timeout = duration("connect_timeout", &timeout)?;
    if connect_timeout.is_zero() {
        return invalid("connect_timeout", "must be above zero");
    }
    if envoy::cluster::LbPolicy::try_from(cluster.lb_policy).is_err() {
        return invalid("lb_policy", format!("{} is not known", cluster.lb_policy));
    }
    let outlier = cluster.outlier_detection.as_ref().map(outlier).transpose();
    let mut thresholds = cluster
        .circuit_breakers
        .unwrap_or_default()
        .thresholds
        .into_iter();
    let limits = match (thresholds.next(), thresholds.next()) {
        (None, _) => Limits::default(),
        (Some(one), None) => limits(&one).within("circuit_breakers.thresholds[0]")?,
        _ => return invalid("circuit_breakers.thresholds", "holds more than one"),
    };
    Ok(Cluster {
        name: Arc::clone(name),
        balancing: balancing(&destination)?,
        namespace: destination.namespace.into(),
        service: destination.service.into(),
        port: port("port", destination.port)?,
        connect_timeout,
        outlier: outlier.within("outlier_detection")?,
        limits,
    })
}

fn check_discovery(cluster: &envoy::Cluster, name: &str) -> Result<(), Invalid> {
    use envoy::cluster::{ClusterDiscoveryType, DiscoveryType};
    let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
    if cluster.cluster_discovery_type != Some(eds) {
        return invalid("type", "must be EDS");
    }
    let config = present("eds_cluster_config", cluster.eds_cluster_config.as_ref())?;
    check_ads("eds_cluster_config.eds_config", config.eds_config.as_ref())?;
    match config.service_name.as_str() {
        "" => Ok(()),
        other => check_name("eds_cluster_config.service_name", other, name),
    }
}

fn balancing(destination: &v1::Destination) -> Result<Balancing, Invalid> {
    let key = || match destination.hash_header.as_str() {
        "" => Ok(HashKey::Client),
        header => match header.parse() {
            Ok(header) => Ok(HashKey::Header(header)),
            Err(_) => invalid("hash_header", format!("{header:?} is no header")),
        },
    };
    Ok(match v1::Balancer::try_from(destination.balancer) {
        Ok(v1::Balancer::PeakEwma) => Balancing::PeakEwma,
        Ok(v1::Balancer::LeastRequest) => Balancing::LeastRequest,
        Ok(v1::Balancer::RoundRobin) => Balancing::RoundRobin,
        Ok(v1::Balancer::RingHash) => Balancing::RingHash(key()?),
        Ok(v1::Balancer::Maglev) => Balancing::Maglev(key()?),
        Err(_) => {
            let text = format!("{} is not known", destination.balancer);
            return invalid("balancer", text);
        }
    })
}

fn number(value: Option<&UInt32Value>) -> Option<u32> {
    value.map(|value| value.value)
}

fn outlier(told: &envoy::OutlierDetection) -> Result<Outlier, Invalid> {
    foreign::check(told)?;
    let time = |field, value: Option<&_>, default| {
        optional_duration(field, value).map(|found| found.unwrap_or(default))
    };
    let percent = number(told.max_ejection_percent.as_ref()).unwrap_or(EJECTED_PERCENT);
    if percent > 100 {
        return invalid("max_ejection_percent", format!("{percent} is above 100"));
    }
    let interval = time("interval", told.interval.as_ref(), INTERVAL)?;
    if interval.is_zero() {
        return invalid("interval", "must be above zero");
    }
    let base = time(
        "base_ejection_time",
        told.base_ejection_time.as_ref(),
        EJECTION,
    )?;
    let longest = told.max_ejection_time.as_ref();
    Ok(Outlier {
        consecutive_5xx: number(told.consecutive_5xx.as_ref()).unwrap_or(0),
        consecutive_gateway_failure: number(told.consecutive_gateway_failure.as_ref()).unwrap_or(0),
        interval,
        base_ejection_time: base,
        max_ejection_time: time("max_ejection_time", longest, LONGEST_EJECTION)?.max(base),
        max_ejection_percent: percent,
    })
}

fn limits(told: &Thresholds) -> Result<Limits, Invalid> {
    let retry_budget = match &told.retry_budget {
        None => RetryBudget::default(),
        Some(budget) => {
            let default = RetryBudget::default();
            let percent = budget.budget_percent.as_ref().map(|percent| percent.value);
            let percent = percent.unwrap_or(default.percent);
            if !(0.0..=100.0).contains(&percent) {
                let text = format!("{percent} is not within 0 and 100");
                return invalid("retry_budget.budget_percent", text);
            }
            let least = number(budget.min_retry_concurrency.as_ref());
            RetryBudget {
                percent,
                min_concurrency: least.unwrap_or(default.min_concurrency),
            }
        }
    };
    Ok(Limits {
        max_connections: number(told.max_connections.as_ref()),
        max_pending_requests: number(told.max_pending_requests.as_ref()),
        max_requests: number(told.max_requests.as_ref()),
        retry_budget,
    })
}
