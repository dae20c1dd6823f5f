//! What an Envoy must be told of a route beyond what the native proxy is told: that one knows it from elsewhere, or does it unasked.

use xds_api::envoy::config::route::v3::retry_policy::{RetryHostPredicate, retry_host_predicate};
use xds_api::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Header, PolicySpecifier,
};
use xds_api::envoy::config::route::v3::route_action::{ClusterNotFoundResponseCode, HashPolicy};
use xds_api::envoy::config::route::v3::{RetryPolicy, RouteAction};
use xds_api::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;

use super::super::any::{number, pack};
use super::super::policy::Policy;

/// A request that never left may go to as many other endpoints, whatever the policy says of retries: it is none.
const OTHER_ENDPOINTS: u32 = 2;
const NEVER_LEFT: &str = "connect-failure";
/// How often an endpoint is drawn again that was tried already.
const DRAWS: i64 = 5;

/// A share without a cluster is answered with 500; a cluster that hashes does so by what the policy says, else by the client's address.
pub(in crate::xds) fn base(policy: &Policy) -> RouteAction {
    let by = match &policy.balancer.hash_header {
        Some(name) => PolicySpecifier::Header(Header {
            header_name: name.to_ascii_lowercase(),
        }),
        None => PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
    };
    let hashes = policy.balancer.algorithm.hashes();
    let hash_policy = hashes.then_some(HashPolicy {
        policy_specifier: Some(by),
    });
    RouteAction {
        cluster_not_found_response_code: ClusterNotFoundResponseCode::InternalServerError as i32,
        hash_policy: hash_policy.into_iter().collect(),
        ..Default::default()
    }
}

/// What is tried again, at another endpoint.
pub(in crate::xds) fn retry(policy: Option<RetryPolicy>) -> RetryPolicy {
    let mut policy = policy.unwrap_or_default();
    if policy.num_retries.is_none_or(|number| number.value == 0) {
        policy.retry_on.clear();
        policy.num_retries = number(OTHER_ENDPOINTS);
    }
    if !policy.retry_on.split(',').any(|token| token == NEVER_LEFT) {
        let comma = if policy.retry_on.is_empty() { "" } else { "," };
        policy.retry_on = format!("{}{comma}{NEVER_LEFT}", policy.retry_on);
    }
    policy.retry_host_predicate = vec![RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pack(
            &PreviousHostsPredicate {},
        ))),
    }];
    policy.host_selection_retry_max_attempts = DRAWS;
    policy
}
