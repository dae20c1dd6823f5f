//! Reports as messages: honest ones and others.

use std::time::Duration;

use xds_api::envoy::config::endpoint::v3::{
    ClusterStats, EndpointLoadMetricStats, UpstreamLocalityStats,
};
use xds_api::google::protobuf;
use xds_api::load_metrics::ANSWER_SECONDS;

use super::super::report::{CLUSTERS, Counts, LOCALITIES, Line, METRICS, UnderWay, read};
use crate::xds::names::ServicePort;
use crate::xds::scope::Dialect;
use crate::xds::translate::native::tests::sample;

/// A locality in which everything was counted.
pub(super) fn locality() -> UpstreamLocalityStats {
    UpstreamLocalityStats {
        total_successful_requests: 5,
        total_requests_in_progress: 3,
        total_error_requests: 2,
        total_issued_requests: 8,
        total_active_connections: 1,
        total_new_connections: 4,
        total_fail_connections: 6,
        load_metric_stats: vec![EndpointLoadMetricStats {
            metric_name: ANSWER_SECONDS.to_owned(),
            num_requests_finished_with_metric: 7,
            total_metric_value: 0.5,
        }],
        ..UpstreamLocalityStats::default()
    }
}

pub(super) fn cluster(name: &str, localities: Vec<UpstreamLocalityStats>) -> ClusterStats {
    ClusterStats {
        cluster_name: name.to_owned(),
        upstream_locality_stats: localities,
        total_dropped_requests: 9,
        load_report_interval: Some(protobuf::Duration {
            seconds: 10,
            nanos: 500_000_000,
        }),
        ..ClusterStats::default()
    }
}

fn check(dialect: Dialect, name: &str, expected: Option<(Counts, UnderWay)>) {
    let log = sample();
    let stats = [cluster(name, vec![locality(), locality()])];
    let report = read(log.state.mesh(), dialect, &stats).unwrap();
    assert_eq!(report.covers, Duration::from_millis(10_500));
    let line = |(counts, under_way)| Line {
        port: ServicePort::new("shop", "web", 80),
        counts,
        under_way,
    };
    assert_eq!(
        report.lines,
        expected.map(line).into_iter().collect::<Vec<_>>(),
        "{dialect:?} {name}"
    );
}

#[test]
fn a_cluster_is_a_port_of_a_service_and_its_localities_are_taken_together() {
    let requests = Counts {
        issued: 16,
        succeeded: 10,
        failed: 4,
        dropped: 9,
        ..Counts::default()
    };
    let under_way = UnderWay {
        requests: 6,
        connections: 0,
    };
    check(Dialect::Envoy, "shop/web:80", Some((requests, under_way)));
    check(Dialect::Grpc, "shop/web:80", Some((requests, under_way)));
    let native = Counts {
        timed: 14,
        seconds: 1.0,
        connections: 8,
        connections_failed: 12,
        ..requests
    };
    let with_connections = UnderWay {
        requests: 6,
        connections: 2,
    };
    check(
        Dialect::Native,
        "shop/web:80",
        Some((native, with_connections)),
    );
}

#[test]
fn what_an_envoy_counts_of_opaque_connections_is_no_request() {
    let opaque = Counts {
        connections: 16,
        dropped: 9,
        ..Counts::default()
    };
    let under_way = UnderWay {
        requests: 0,
        connections: 6,
    };
    check(Dialect::Envoy, "shop/web:80/tcp", Some((opaque, under_way)));
    check(Dialect::Native, "shop/web:80/tcp", None);
}

#[test]
fn nothing_is_kept_of_what_is_no_service() {
    for name in [
        "",
        "agent",
        "passthrough",
        "app/shop/web-1:8080",
        "shop/web:8888",
        "shop/nobody:80",
        "pay/web:80",
    ] {
        check(Dialect::Envoy, name, None);
    }
}

fn check_refused(stats: &[ClusterStats], words: &str) {
    let log = sample();
    for dialect in Dialect::ALL {
        let why = read(log.state.mesh(), dialect, stats).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_report_beyond_every_bound_is_refused_and_its_cluster_named() {
    let many = vec![ClusterStats::default(); CLUSTERS + 1];
    check_refused(&many, "it has 32769 clusters; 32768 is the limit");
    let far = vec![UpstreamLocalityStats::default(); LOCALITIES + 1];
    let expected = "cluster \"shop/web:80\": it has 257 localities; 256 is the limit";
    check_refused(&[cluster("shop/web:80", far)], expected);
    let mut metrics = locality();
    metrics.load_metric_stats = vec![EndpointLoadMetricStats::default(); METRICS + 1];
    let expected = "a locality has 257 metrics; 256 is the limit";
    check_refused(&[cluster("shop/web:80", vec![metrics])], expected);
    let long = "x".repeat(5_000);
    let far = vec![UpstreamLocalityStats::default(); LOCALITIES + 1];
    let log = sample();
    let stats = [cluster(&long, far)];
    let why = read(log.state.mesh(), Dialect::Envoy, &stats).unwrap_err();
    assert!(why.len() < 300, "{why}");
}

#[test]
fn a_time_that_is_none_is_refused() {
    for (seconds, nanos) in [
        (-1, 0),
        (0, -1),
        (0, 1_000_000_000),
        (86_401, 0),
        (i64::MAX, 0),
    ] {
        let mut wrong = cluster("shop/web:80", Vec::new());
        wrong.load_report_interval = Some(protobuf::Duration { seconds, nanos });
        check_refused(
            &[wrong],
            "cluster \"shop/web:80\": its load_report_interval",
        );
    }
}

#[test]
fn answers_that_took_no_possible_time_are_refused_and_only_the_native_proxy_is_asked() {
    let log = sample();
    let read = |dialect, value| {
        let mut timed = locality();
        timed.load_metric_stats[0].total_metric_value = value;
        read(
            log.state.mesh(),
            dialect,
            &[cluster("shop/web:80", vec![timed])],
        )
    };
    for value in [-0.1, f64::NAN, f64::INFINITY, 7.0 * 86_400.5] {
        let why = read(Dialect::Native, value).unwrap_err();
        assert!(why.contains("maille.answer_seconds is"), "{why}");
        // A program behind a gRPC client may have named a metric of its own so.
        assert_eq!(read(Dialect::Grpc, value).unwrap().lines[0].counts.timed, 0);
    }
}

#[test]
fn counts_without_end_stay_where_they_are() {
    let mut sum = Counts {
        issued: u64::MAX,
        ..Counts::default()
    };
    sum.add(&sum.clone());
    assert_eq!(sum.issued, u64::MAX);
}
