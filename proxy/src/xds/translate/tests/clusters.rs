//! Clusters.

use super::*;

fn check(change: impl FnOnce(&mut cds::Cluster), expected: &str) {
    let mut message = cluster(PORT);
    change(&mut message);
    refuse(PORT, &message, expected);
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

#[test]
fn every_field_arrives() {
    let mut message = cluster(PORT);
    message.metadata = metadata(&v1::Destination {
        namespace: "shop".into(),
        service: "api".into(),
        port: 80,
        balancer: v1::Balancer::Maglev.into(),
        hash_header: "x-user".into(),
    });
    message.outlier_detection = Some(cds::OutlierDetection {
        consecutive_5xx: number(7),
        interval: Some(seconds(3)),
        base_ejection_time: Some(seconds(4)),
        max_ejection_time: Some(seconds(9)),
        max_ejection_percent: number(50),
        consecutive_gateway_failure: number(2),
        ..Default::default()
    });
    let thresholds = cds::circuit_breakers::Thresholds {
        max_connections: number(1),
        max_pending_requests: number(2),
        max_requests: number(3),
        retry_budget: Some(cds::circuit_breakers::thresholds::RetryBudget {
            budget_percent: Some(Percent { value: 12.5 }),
            min_retry_concurrency: number(4),
        }),
    };
    message.circuit_breakers = Some(cds::CircuitBreakers {
        thresholds: vec![thresholds],
    });
    let Value::Cluster(found) = read(PORT, &message).unwrap() else {
        panic!("no cluster");
    };
    assert_eq!(
        found.balancing,
        Balancing::Maglev(HashKey::Header("x-user".parse().unwrap()))
    );
    let outlier = found.outlier.as_ref().unwrap();
    assert_eq!(
        (outlier.consecutive_5xx, outlier.consecutive_gateway_failure),
        (7, 2)
    );
    assert_eq!(outlier.base_ejection_time, Duration::from_secs(4));
    assert_eq!(
        (outlier.max_ejection_time, outlier.max_ejection_percent),
        (Duration::from_secs(9), 50)
    );
    let limits = &found.limits;
    assert_eq!(
        (
            limits.max_connections,
            limits.max_pending_requests,
            limits.max_requests
        ),
        (Some(1), Some(2), Some(3))
    );
    assert_eq!(
        (
            limits.retry_budget.percent,
            limits.retry_budget.min_concurrency
        ),
        (12.5, 4)
    );
    assert_eq!(found.connect_timeout, Duration::from_secs(5));
}

#[test]
fn what_is_not_understood_is_refused() {
    use cds::cluster::{ClusterDiscoveryType, DiscoveryType};
    let kind = ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into());
    check(
        |one| one.cluster_discovery_type = Some(kind),
        "type: must be EDS",
    );
    check(
        |one| one.eds_cluster_config.as_mut().unwrap().eds_config = None,
        "eds_cluster_config.eds_config: must be `ads`",
    );
    check(
        |one| one.connect_timeout = Some(seconds(-1)),
        "connect_timeout: is no duration from zero up",
    );
    check(
        |one| one.connect_timeout = Some(seconds(0)),
        "connect_timeout: must be above zero",
    );
    check(|one| one.lb_policy = 4, "lb_policy: 4 is not known");
    check(
        |one| {
            one.outlier_detection = Some(cds::OutlierDetection {
                max_ejection_percent: number(101),
                ..Default::default()
            })
        },
        "outlier_detection.max_ejection_percent: 101 is above 100",
    );
    check(
        |one| {
            one.circuit_breakers = Some(cds::CircuitBreakers {
                thresholds: vec![Default::default(); 2],
            })
        },
        "circuit_breakers.thresholds: holds more than one",
    );
}
