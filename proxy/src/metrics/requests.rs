//! The counters of one route or port: each status' counter is looked up once, then only incremented.

use super::labels::{GrpcLabels, LatencyLabels, StatusLabels};
use super::{Metrics, RequestLabels};
use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::OnceLock;
use std::time::Duration;

/// By the status' first digit; 0 is what no HTTP status has.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// gRPC knows the statuses 0 to 16.
const GRPC_STATUSES: usize = 17;

/// What is counted of one route or port.
#[derive(Debug)]
pub struct RequestMetrics {
    metrics: Metrics,
    labels: RequestLabels,
    classes: [OnceLock<Counter>; CLASSES.len()],
    grpc: [OnceLock<Counter>; GRPC_STATUSES],
    latency: OnceLock<Histogram>,
}

impl RequestMetrics {
    pub(super) fn new(metrics: Metrics, labels: RequestLabels) -> Self {
        Self {
            metrics,
            labels,
            classes: Default::default(),
            grpc: Default::default(),
            latency: OnceLock::new(),
        }
    }

    /// An exchange has ended.
    pub fn finished(&self, status: StatusCode, time: Duration) {
        let class = usize::from(status.as_u16() / 100);
        let class = if class < CLASSES.len() { class } else { 0 };
        self.classes[class].get_or_init(|| self.class(class)).inc();
        self.latency
            .get_or_init(|| self.histogram())
            .observe(time.as_secs_f64());
    }

    /// It was gRPC and ended with this status.
    pub fn grpc(&self, status: u32) {
        // Unknown (2) is what gRPC says of a number that it does not know.
        let index = usize::try_from(status)
            .ok()
            .filter(|index| *index < GRPC_STATUSES)
            .unwrap_or(2);
        self.grpc[index]
            .get_or_init(|| self.grpc_counter(index))
            .inc();
    }

    fn class(&self, class: usize) -> Counter {
        let labels = self.labels.clone();
        let labels = StatusLabels {
            direction: labels.direction,
            service: labels.service,
            route: labels.route,
            backend: labels.backend,
            peer: labels.peer,
            status: CLASSES[class],
        };
        let families = &self.metrics.families;
        families.requests.get(&labels, self.metrics.workload())
    }

    fn grpc_counter(&self, status: usize) -> Counter {
        let labels = self.labels.clone();
        let labels = GrpcLabels {
            direction: labels.direction,
            service: labels.service,
            route: labels.route,
            backend: labels.backend,
            peer: labels.peer,
            grpc_status: u32::try_from(status).unwrap_or_default(),
        };
        let families = &self.metrics.families;
        families.grpc.get(&labels, self.metrics.workload())
    }

    fn histogram(&self) -> Histogram {
        let labels = &self.labels;
        let labels = LatencyLabels {
            direction: labels.direction,
            service: labels.service.clone(),
            route: labels.route.clone(),
            backend: labels.backend.clone(),
        };
        let families = &self.metrics.families;
        families.latency.get(&labels, self.metrics.workload())
    }
}
