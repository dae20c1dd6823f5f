//! What the xDS server counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use xds_api::type_url::TypeUrl;

use crate::telemetry::Metrics;

/// One type of resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    kind: &'static str,
}

impl Labels {
    pub(super) fn of(kind: TypeUrl) -> Self {
        Self { kind: kind.short() }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct XdsMetrics {
    pub(super) streams: Gauge,
    pub(super) responses: Family<Labels, Counter>,
    pub(super) resource_bytes: Counter,
    pub(super) nacks: Family<Labels, Counter>,
    pub(super) stuck: Counter,
    pub(super) moved: Counter,
}

impl XdsMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            registry.register("xds_streams", "Open xDS streams", own.streams.clone());
            registry.register(
                "xds_responses",
                "xDS responses sent, by type",
                own.responses.clone(),
            );
            registry.register(
                "xds_resource_bytes",
                "Bytes of resources sent over xDS",
                own.resource_bytes.clone(),
            );
            registry.register(
                "xds_nacks",
                "xDS responses that clients rejected, by type",
                own.nacks.clone(),
            );
            registry.register(
                "xds_stuck_streams",
                "xDS streams closed because the client read or answered nothing",
                own.stuck.clone(),
            );
            registry.register(
                "xds_moved_streams",
                "xDS streams sent to other controllers because this one had more than its share",
                own.moved.clone(),
            );
        });
        own
    }
}
