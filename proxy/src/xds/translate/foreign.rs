//! Fields of Envoy's messages that our crate knows, since the control plane writes them for Envoys and gRPC programs, and that have no place in the native dialect: a
//! resource that holds one is not for this proxy.

use super::strict::{Invalid, invalid};
use xds_api::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use xds_api::envoy::config::endpoint::v3::{Endpoint, LocalityLbEndpoints};
use xds_api::envoy::config::listener::v3::{FilterChain, Listener};
use xds_api::envoy::config::route::v3::{RetryPolicy, RouteAction};
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use xds_api::envoy::extensions::transport_sockets::tls::v3::CertificateValidationContext;
use xds_api::envoy::r#type::matcher::v3::StringMatcher;

/// A message, stripped of the fields of the native dialect.
trait Rest: Clone + Default + PartialEq {
    fn strip(&mut self);
}

/// Refuses what is only for others.
#[expect(
    private_bounds,
    reason = "the messages are listed here and nowhere else"
)]
pub(super) fn check<M: Rest>(message: &M) -> Result<(), Invalid> {
    let mut rest = message.clone();
    rest.strip();
    if rest == M::default() {
        return Ok(());
    }
    invalid(
        "",
        "holds fields that are for Envoy or gRPC, not for this proxy",
    )
}

impl Rest for Listener {
    fn strip(&mut self) {
        self.name.clear();
        self.filter_chains.clear();
        self.default_filter_chain = None;
        self.metadata = None;
    }
}

impl Rest for FilterChain {
    fn strip(&mut self) {
        self.filters.clear();
    }
}

impl Rest for HttpConnectionManager {
    fn strip(&mut self) {
        self.stat_prefix.clear();
        self.route_specifier = None;
    }
}

impl Rest for Cluster {
    fn strip(&mut self) {
        let kept = std::mem::take(self);
        self.transport_socket_matches = kept.transport_socket_matches;
        self.transport_socket = kept.transport_socket;
        self.lrs_server = kept.lrs_server;
        self.load_assignment = kept.load_assignment;
        self.typed_extension_protocol_options = kept.typed_extension_protocol_options;
    }
}

impl Rest for OutlierDetection {
    fn strip(&mut self) {
        let kept = std::mem::take(self);
        self.enforcing_consecutive_gateway_failure = kept.enforcing_consecutive_gateway_failure;
        self.enforcing_success_rate = kept.enforcing_success_rate;
        self.failure_percentage_threshold = kept.failure_percentage_threshold;
        self.enforcing_failure_percentage = kept.enforcing_failure_percentage;
        self.failure_percentage_minimum_hosts = kept.failure_percentage_minimum_hosts;
        self.failure_percentage_request_volume = kept.failure_percentage_request_volume;
    }
}

impl Rest for Endpoint {
    fn strip(&mut self) {
        self.address = None;
    }
}

impl Rest for LocalityLbEndpoints {
    fn strip(&mut self) {
        self.locality = None;
        self.lb_endpoints.clear();
    }
}

impl Rest for RouteAction {
    fn strip(&mut self) {
        let kept = std::mem::take(self);
        self.hash_policy = kept.hash_policy;
        self.cluster_not_found_response_code = kept.cluster_not_found_response_code;
        self.max_stream_duration = kept.max_stream_duration;
    }
}

impl Rest for RetryPolicy {
    fn strip(&mut self) {
        let kept = std::mem::take(self);
        self.retry_host_predicate = kept.retry_host_predicate;
        self.host_selection_retry_max_attempts = kept.host_selection_retry_max_attempts;
    }
}

/// All texts are compared with case.
impl Rest for StringMatcher {
    fn strip(&mut self) {
        self.match_pattern = None;
    }
}

impl Rest for CertificateValidationContext {
    fn strip(&mut self) {
        self.trusted_ca = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xds_api::envoy::config::core::v3::ConfigSource;
    use xds_api::google::protobuf::UInt32Value;

    #[test]
    fn what_is_for_others_is_refused() {
        let mut listener = Listener {
            name: "out/x".to_owned(),
            ..Listener::default()
        };
        assert!(check(&listener).is_ok());
        listener.continue_on_listener_filters_timeout = true;
        assert!(check(&listener).is_err());
        let mut outliers = OutlierDetection {
            consecutive_5xx: Some(UInt32Value { value: 5 }),
            ..OutlierDetection::default()
        };
        assert!(check(&outliers).is_ok());
        outliers.enforcing_consecutive_gateway_failure = Some(UInt32Value { value: 100 });
        assert!(check(&outliers).is_err());
        let mut cluster = Cluster {
            name: "shop/api:80".to_owned(),
            ..Cluster::default()
        };
        assert!(check(&cluster).is_ok());
        cluster.lrs_server = Some(ConfigSource::default());
        assert!(check(&cluster).is_err());
        let weighted = LocalityLbEndpoints {
            load_balancing_weight: Some(UInt32Value { value: 1 }),
            ..LocalityLbEndpoints::default()
        };
        assert!(check(&weighted).is_err());
    }
}
