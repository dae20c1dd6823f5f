//! What is counted, in Prometheus' form. Counters are looked up once per route, connection or cluster and then only incremented.

mod bounded;
mod labels;
mod loads;
mod requests;

pub use labels::{
    AuthorizationLabels, ClusterLabels, ConnectionLabels, DetectLabels, Direction, ErrorLabels,
    HandshakeLabels, RequestLabels, RetryLabels,
};
pub use loads::{ClusterCounts, ClusterLoad, Counts, Flight, Load, Loads, Opened, is_failure};
pub use requests::RequestMetrics;

use bounded::Bounded;
use labels::{GrpcLabels, LatencyLabels, OverflowLabels, Owned, StatusLabels};
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex, PoisonError};

/// Series of one family. A sidecar of a busy service sees some hundred; past this, labels are folded into `other`,
/// so that no peer, path or host can make the proxy grow.
const SERIES: usize = 1_000;
/// Histograms cost twelve times a counter.
const HISTOGRAMS: usize = 250;
/// Seconds; from a cache hit on the same machine to the longest request that people wait for.
const LATENCY_BUCKETS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0,
];

/// Makes a histogram with the proxy's buckets.
#[derive(Debug, Clone, Copy)]
struct LatencyHistogram;

impl MetricConstructor<Histogram> for LatencyHistogram {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LATENCY_BUCKETS)
    }
}

/// All of the data path's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    families: Arc<Families>,
    loads: Loads,
    /// Whose they are where the host has several workloads.
    workload: Option<Arc<str>>,
}

#[derive(Debug)]
struct Families {
    registry: Mutex<Registry>,
    requests: Bounded<StatusLabels, Counter>,
    grpc: Bounded<GrpcLabels, Counter>,
    latency: Bounded<LatencyLabels, Histogram, LatencyHistogram>,
    errors: Bounded<ErrorLabels, Counter>,
    connections: Bounded<ConnectionLabels, Counter>,
    open: Bounded<ConnectionLabels, Gauge>,
    read: Bounded<ConnectionLabels, Counter>,
    written: Bounded<ConnectionLabels, Counter>,
    retries: Bounded<RetryLabels, Counter>,
    ejections: Bounded<ClusterLabels, Counter>,
    authorizations: Bounded<AuthorizationLabels, Counter>,
    handshakes: Bounded<HandshakeLabels, Counter>,
    detected: Bounded<DetectLabels, Counter>,
}

/// One connection's counters.
#[derive(Debug, Clone)]
pub struct ConnectionMetrics {
    open: Gauge,
    /// Bytes from the application's or client's side.
    pub read: Counter,
    /// Bytes to the application's or client's side.
    pub written: Counter,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.open.dec();
    }
}

/// Counts as open until it is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    /// The connection's counters.
    pub metrics: ConnectionMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Empty families in a registry of their own.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("maille");
        let folded = Family::<OverflowLabels, Counter>::default();
        let help = "Times that labels were folded into `other` because a family was full";
        registry.register("series_folded", help, folded.clone());
        let mut make = Maker {
            registry: &mut registry,
            folded: &folded,
        };
        let families = Families {
            requests: make.family("requests", "HTTP exchanges by status class"),
            grpc: make.family("grpc_responses", "gRPC exchanges by status"),
            latency: make.latency(),
            errors: make.family(
                "errors",
                "Exchanges and connections that the proxy itself ended",
            ),
            connections: make.family("connections", "Connections and opaque streams accepted"),
            open: make.family(
                "connections_open",
                "Connections and opaque streams open now",
            ),
            read: make.family(
                "read_bytes",
                "Bytes read from the accepted side of opaque streams",
            ),
            written: make.family(
                "written_bytes",
                "Bytes written to the accepted side of opaque streams",
            ),
            retries: make.family("retries", "Further tries of requests"),
            ejections: make.family("ejections", "Endpoints left alone after failures"),
            authorizations: make
                .family("authorizations", "Decisions about connections and requests"),
            handshakes: make.family("tls_handshakes", "TLS handshakes between proxies"),
            detected: make.family("detected", "Protocols found by detection"),
            registry: Mutex::default(),
        };
        *families
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = registry;
        Self {
            families: Arc::new(families),
            loads: Loads::default(),
            workload: None,
        }
    }

    /// What is counted for load reports.
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// The same families, for one of several workloads, `<namespace>/<name>`; its load reports are its own.
    pub fn of_workload(&self, workload: &str) -> Self {
        Self {
            families: self.families.clone(),
            loads: Loads::default(),
            workload: Some(workload.into()),
        }
    }

    fn workload(&self) -> Option<&Arc<str>> {
        self.workload.as_ref()
    }

    /// Lets another part of the process add its own metrics.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        let registry = &self.families.registry;
        add(&mut registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Everything in the OpenMetrics text form.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = &self.families.registry;
        let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Counters of one route or port.
    pub fn requests(&self, labels: RequestLabels) -> Arc<RequestMetrics> {
        Arc::new(RequestMetrics::new(self.clone(), labels))
    }

    /// Counts a connection as accepted and, until the value is dropped, as open.
    pub fn connection(&self, labels: &ConnectionLabels) -> OpenConnection {
        let families = &self.families;
        let workload = self.workload();
        families.connections.get(labels, workload).inc();
        let metrics = ConnectionMetrics {
            open: families.open.get(labels, workload),
            read: families.read.get(labels, workload),
            written: families.written.get(labels, workload),
        };
        metrics.open.inc();
        OpenConnection { metrics }
    }

    /// An exchange or connection that the proxy ended by itself.
    pub fn error(&self, direction: Direction, service: &str, reason: &'static str) {
        let labels = ErrorLabels {
            direction,
            service: service.to_owned(),
            reason,
        };
        self.families.errors.get(&labels, self.workload()).inc();
    }

    /// The counter of retries that ended so.
    pub fn retries(&self, service: &str, outcome: &'static str) -> Counter {
        let labels = RetryLabels {
            service: service.to_owned(),
            outcome,
        };
        self.families.retries.get(&labels, self.workload())
    }

    /// The counter of a cluster's ejections.
    pub fn ejections(&self, cluster: &str) -> Counter {
        let labels = ClusterLabels {
            cluster: cluster.to_owned(),
        };
        self.families.ejections.get(&labels, self.workload())
    }

    /// A decision about a connection or a request.
    pub fn authorization(&self, labels: &AuthorizationLabels) -> Counter {
        self.families.authorizations.get(labels, self.workload())
    }

    /// A TLS handshake: `role` is client or server, `outcome` full, resumed or failed.
    pub fn handshake(&self, role: &'static str, outcome: &'static str) {
        let labels = HandshakeLabels { role, outcome };
        self.families.handshakes.get(&labels, self.workload()).inc();
    }

    /// What detection found.
    pub fn detected(&self, direction: Direction, protocol: &'static str) {
        let labels = DetectLabels {
            direction,
            protocol,
        };
        self.families.detected.get(&labels, self.workload()).inc();
    }
}

/// Registers families as it makes them.
struct Maker<'a> {
    registry: &'a mut Registry,
    folded: &'a Family<OverflowLabels, Counter>,
}

impl Maker<'_> {
    fn family<L, M>(&mut self, name: &'static str, help: &str) -> Bounded<L, M>
    where
        L: labels::Folded,
        M: prometheus_client::registry::Metric + TypedMetric + EncodeMetric + Default + Clone,
    {
        let family = Family::<Owned<L>, M>::default();
        self.registry.register(name, help, family.clone());
        Bounded::new(family, SERIES, self.overflow(name))
    }

    fn latency(&mut self) -> Bounded<LatencyLabels, Histogram, LatencyHistogram> {
        let family = Family::new_with_constructor(LatencyHistogram);
        let help = "Seconds from a request's head to the end of its response";
        self.registry
            .register("request_duration_seconds", help, family.clone());
        Bounded::new(
            family,
            HISTOGRAMS,
            self.overflow("request_duration_seconds"),
        )
    }

    fn overflow(&self, family: &'static str) -> Counter {
        self.folded.get_or_create_owned(&OverflowLabels { family })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn series_stay_under_their_limit_and_the_rest_is_counted() {
        let metrics = Metrics::new();
        for number in 0..SERIES + 500 {
            metrics.error(Direction::Inbound, &format!("s{number}"), "denied");
        }
        let text = metrics.encode().unwrap();
        let series = text
            .lines()
            .filter(|line| line.starts_with("maille_errors_total{"))
            .count();
        assert_eq!(series, SERIES + 1, "the limit and `other`");
        let other =
            r#"maille_errors_total{direction="inbound",service="other",reason="denied"} 500"#;
        assert!(text.contains(other), "{text}");
        assert!(
            text.contains(r#"maille_series_folded_total{family="errors"} 500"#),
            "{text}"
        );
    }

    #[test]
    fn several_workloads_are_told_apart_in_one_family() {
        let metrics = Metrics::new();
        metrics.error(Direction::Inbound, "", "denied");
        for workload in ["shop/web", "shop/api"] {
            let own = metrics.of_workload(workload);
            own.error(Direction::Inbound, "", "denied");
        }
        let text = metrics.encode().unwrap();
        let series = |labels: &str| {
            format!(
                "maille_errors_total{{direction=\"inbound\",service=\"\",reason=\"denied\"{labels}}} 1\n"
            )
        };
        for labels in ["", ",workload=\"shop/web\"", ",workload=\"shop/api\""] {
            assert!(text.contains(&series(labels)), "{labels} in {text}");
        }
        assert_eq!(text.matches("# TYPE maille_errors ").count(), 1, "{text}");
    }

    #[test]
    fn an_exchange_is_counted_by_class_and_time() {
        let metrics = Metrics::new();
        let requests = metrics.requests(RequestLabels {
            direction: Direction::Outbound,
            service: "demo/web:80".to_owned(),
            route: String::new(),
            backend: "demo/web:80".to_owned(),
            peer: String::new(),
        });
        requests.finished(
            http::StatusCode::NOT_FOUND,
            std::time::Duration::from_millis(3),
        );
        requests.grpc(5);
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"peer="",status="4xx"} 1"#), "{text}");
        assert!(text.contains(r#"grpc_status="5"} 1"#), "{text}");
        assert!(
            text.contains("maille_request_duration_seconds_count"),
            "{text}"
        );
    }
}
