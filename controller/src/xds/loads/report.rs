//! One report, read: what was counted of each port of a service. Pure.

use std::time::Duration;

use xds_api::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};
use xds_api::load_metrics::ANSWER_SECONDS;

use crate::model::Mesh;
use crate::xds::names::ServicePort;
use crate::xds::scope::Dialect;
use crate::xds::translate::envoy::OPAQUE;

/// Clusters in one report: an Envoy names every cluster that it has, two a port, whether it called it or not.
pub(super) const CLUSTERS: usize = 32_768;
/// Localities of one cluster, with their priorities.
pub(super) const LOCALITIES: usize = 256;
/// Metrics of one locality; programs behind a gRPC client name their own.
pub(super) const METRICS: usize = 256;
/// No report covers more: what a client says beyond is a broken clock.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What was counted since the last report.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) issued: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) dropped: u64,
    /// Requests whose answers' beginnings were timed, and how long they took together.
    pub(super) timed: u64,
    pub(super) seconds: f64,
    pub(super) connections: u64,
    pub(super) connections_failed: u64,
}

impl Counts {
    /// Takes another in. A client that counts without end spoils its own line, and no more.
    pub(super) fn add(&mut self, other: &Self) {
        let sum = |one: &mut u64, other: u64| *one = one.saturating_add(other);
        sum(&mut self.issued, other.issued);
        sum(&mut self.succeeded, other.succeeded);
        sum(&mut self.failed, other.failed);
        sum(&mut self.dropped, other.dropped);
        sum(&mut self.timed, other.timed);
        self.seconds += other.seconds;
        sum(&mut self.connections, other.connections);
        sum(&mut self.connections_failed, other.connections_failed);
    }
}

/// What is so at the moment of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct UnderWay {
    pub(super) requests: u64,
    pub(super) connections: u64,
}

/// What a report says of one port of a service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) port: ServicePort,
    pub(super) counts: Counts,
    pub(super) under_way: UnderWay,
}

/// A report.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Report {
    pub(super) lines: Vec<Line>,
    /// The time that it covers, as far as the client says so.
    pub(super) covers: Duration,
}

/// What a report says of services that there are. Of what else a client calls (its own application, addresses outside of the mesh) nothing is kept.
///
/// # Errors
/// It says what no client can mean; the text names the cluster.
pub(super) fn read(
    mesh: &Mesh,
    dialect: Dialect,
    stats: &[ClusterStats],
) -> Result<Report, String> {
    if stats.len() > CLUSTERS {
        return Err(format!(
            "it has {} clusters; {CLUSTERS} is the limit",
            stats.len()
        ));
    }
    let mut report = Report::default();
    for cluster in stats {
        let wrong = |why: String| format!("cluster {}: {why}", shown(&cluster.cluster_name));
        report.covers = report.covers.max(covered(cluster).map_err(wrong)?);
        if cluster.upstream_locality_stats.len() > LOCALITIES {
            return Err(wrong(format!(
                "it has {} localities; {LOCALITIES} is the limit",
                cluster.upstream_locality_stats.len()
            )));
        }
        let Some((port, opaque)) = called(mesh, dialect, &cluster.cluster_name) else {
            continue;
        };
        let mut line = Line {
            port,
            counts: Counts {
                dropped: cluster.total_dropped_requests,
                ..Counts::default()
            },
            under_way: UnderWay::default(),
        };
        for locality in &cluster.upstream_locality_stats {
            let (counts, under_way) = counted(dialect, opaque, locality).map_err(wrong)?;
            line.counts.add(&counts);
            let under = &mut line.under_way;
            under.requests = under.requests.saturating_add(under_way.requests);
            under.connections = under.connections.saturating_add(under_way.connections);
        }
        if line.counts != Counts::default() || line.under_way != UnderWay::default() {
            report.lines.push(line);
        }
    }
    Ok(report)
}

/// The port of a service that a cluster stands for, and whether it carries opaque connections only.
fn called(mesh: &Mesh, dialect: Dialect, cluster: &str) -> Option<(ServicePort, bool)> {
    let (name, opaque) = match (dialect, cluster.strip_suffix(OPAQUE)) {
        (Dialect::Envoy, Some(name)) => (name, true),
        _ => (cluster, false),
    };
    let port = ServicePort::parse(name)?;
    let service = mesh.services().get(&port.service)?;
    service.object.spec.port(port.port)?;
    Some((port, opaque))
}

fn covered(cluster: &ClusterStats) -> Result<Duration, String> {
    let Some(interval) = cluster.load_report_interval else {
        return Ok(Duration::ZERO);
    };
    let (Ok(seconds), Ok(nanos)) = (
        u64::try_from(interval.seconds),
        u32::try_from(interval.nanos),
    ) else {
        return Err("its load_report_interval is negative".to_owned());
    };
    if nanos >= 1_000_000_000 || seconds > LONGEST.as_secs() {
        return Err(format!(
            "its load_report_interval is no time, or longer than {LONGEST:?}"
        ));
    }
    Ok(Duration::new(seconds, nanos))
}

/// An Envoy counts an opaque connection as a request that is issued and neither succeeds nor fails.
fn counted(
    dialect: Dialect,
    opaque: bool,
    locality: &UpstreamLocalityStats,
) -> Result<(Counts, UnderWay), String> {
    if opaque {
        let counts = Counts {
            connections: locality.total_issued_requests,
            ..Counts::default()
        };
        let under_way = UnderWay {
            connections: locality.total_requests_in_progress,
            ..UnderWay::default()
        };
        return Ok((counts, under_way));
    }
    let (timed, seconds) = timed(dialect, locality)?;
    let mut counts = Counts {
        issued: locality.total_issued_requests,
        succeeded: locality.total_successful_requests,
        failed: locality.total_error_requests,
        timed,
        seconds,
        ..Counts::default()
    };
    let mut under_way = UnderWay {
        requests: locality.total_requests_in_progress,
        ..UnderWay::default()
    };
    // Others count the connections under their requests.
    if dialect == Dialect::Native {
        counts.connections = locality.total_new_connections;
        counts.connections_failed = locality.total_fail_connections;
        under_way.connections = locality.total_active_connections;
    }
    Ok((counts, under_way))
}

/// Only the native proxy times anything. What gRPC clients pass on was named by the program that they called.
fn timed(dialect: Dialect, locality: &UpstreamLocalityStats) -> Result<(u64, f64), String> {
    if locality.load_metric_stats.len() > METRICS {
        return Err(format!(
            "a locality has {} metrics; {METRICS} is the limit",
            locality.load_metric_stats.len()
        ));
    }
    let mut metrics = locality.load_metric_stats.iter();
    let metric = metrics.find(|one| one.metric_name == ANSWER_SECONDS);
    let Some(metric) = metric.filter(|_| dialect == Dialect::Native) else {
        return Ok((0, 0.0));
    };
    let seconds = metric.total_metric_value;
    let longest = LONGEST.as_secs_f64() * metric.num_requests_finished_with_metric as f64;
    if !(0.0..=longest).contains(&seconds) {
        return Err(format!("{ANSWER_SECONDS} is {seconds}, which is no time"));
    }
    Ok((metric.num_requests_finished_with_metric, seconds))
}

/// A name that somebody else chose, at a length that a log can take.
fn shown(name: &str) -> String {
    const SHOWN: usize = 100;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}
