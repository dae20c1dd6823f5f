//! RDS: what becomes of a client's requests, as far as gRPC can do it. Every request of gRPC is `POST /<service>/<method>` without a query: what is
//! about others is left out.

use std::collections::BTreeSet;
use std::sync::Arc;

use xds_api::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use xds_api::envoy::config::route::v3::route::Action;
use xds_api::envoy::config::route::v3::route_action::{ClusterSpecifier, MaxStreamDuration};
use xds_api::envoy::config::route::v3::route_match::PathSpecifier;
use xds_api::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use xds_api::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, RetryPolicy, Route, RouteAction, RouteMatch,
    WeightedCluster,
};
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_api::google::protobuf::Duration;
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::super::calls::POST;
use super::super::matching::{METHOD, route_match};
use super::super::{Translated, route};
use super::NOWHERE;
use crate::model::Mesh;
use crate::model::kinds::http_route::Match;
use crate::xds::names::ServicePort;
use crate::xds::scope::Dialect;

/// What gRPC can retry on.
const RETRIED: [&str; 5] = [
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
/// gRPC answers requests on a route whose action is not to pass them on with UNAVAILABLE, whatever this says.
const REFUSED: u32 = 503;

pub(in super::super) fn translate(
    mesh: &Mesh,
    name: Arc<str>,
    port: &ServicePort,
    client: Option<&str>,
) -> Option<Translated> {
    let (mut configuration, mut clusters) =
        route::configuration(Dialect::Grpc, mesh, &name, port, client)?;
    for host in &mut configuration.virtual_hosts {
        let routes = std::mem::take(&mut host.routes).into_iter();
        host.routes = routes.flat_map(|one| understood(one, &clusters)).collect();
        if host.routes.is_empty() {
            // No route may match; but gRPC refuses to be told of none.
            host.routes.push(Route {
                r#match: Some(route_match(&Match::default())),
                action: Some(refused()),
                ..Default::default()
            });
        }
        if host.routes.iter().any(leads_nowhere) {
            clusters.insert(NOWHERE.into());
        }
    }
    let links = clusters.into_iter().map(|name| (TypeUrl::Cluster, name));
    let links = links.collect();
    Some(Translated::new(Resource::new(name, &configuration), links))
}

/// A route in gRPC's terms; nothing where no request of gRPC can match it. Changes to headers are left out: they are the program's own.
pub(super) fn understood(route: Route, clusters: &BTreeSet<Arc<str>>) -> Vec<Route> {
    let condition = route.r#match.unwrap_or_default();
    let (methods, headers): (Vec<_>, Vec<_>) = condition
        .headers
        .into_iter()
        .partition(|header| header.name == METHOD);
    if !condition.query_parameters.is_empty() || !methods.iter().all(is_post) {
        return Vec::new();
    }
    let Some(path) = condition.path_specifier.and_then(path) else {
        return Vec::new();
    };
    let action = match route.action {
        Some(Action::Route(action)) => forward(action, clusters),
        _ => refused(),
    };
    vec![Route {
        name: route.name,
        r#match: Some(RouteMatch {
            path_specifier: Some(path),
            headers,
            query_parameters: Vec::new(),
        }),
        action: Some(action),
        ..Default::default()
    }]
}

fn is_post(header: &HeaderMatcher) -> bool {
    let Some(HeaderMatchSpecifier::StringMatch(text)) = &header.header_match_specifier else {
        return false;
    };
    text.match_pattern == Some(MatchPattern::Exact(POST.to_owned()))
}

/// Paths have two segments: a prefix of one is a service, of two a method.
fn path(specifier: PathSpecifier) -> Option<PathSpecifier> {
    let segments = |path: &str| {
        let all: Vec<&str> = path.split('/').skip(1).collect();
        let sound = !all.is_empty() && all.iter().all(|segment| !segment.is_empty());
        sound.then_some(all.len())
    };
    match specifier {
        PathSpecifier::PathSeparatedPrefix(prefix) => match segments(&prefix)? {
            1 => Some(PathSpecifier::Prefix(format!("{prefix}/"))),
            2 => Some(PathSpecifier::Path(prefix)),
            _ => None,
        },
        PathSpecifier::Path(path) => {
            (segments(&path) == Some(2)).then_some(PathSpecifier::Path(path))
        }
        other => Some(other),
    }
}

fn refused() -> Action {
    Action::DirectResponse(DirectResponseAction { status: REFUSED })
}

/// Who calls something else than what was asked for must be refused: gRPC rewrites nothing.
fn forward(action: RouteAction, clusters: &BTreeSet<Arc<str>>) -> Action {
    let rewrites = !action.prefix_rewrite.is_empty()
        || action.regex_rewrite.is_some()
        || action.host_rewrite_specifier.is_some();
    if rewrites {
        return refused();
    }
    let known = |name: String| match clusters.contains(name.as_str()) {
        true => name,
        false => NOWHERE.to_owned(),
    };
    let specifier = action.cluster_specifier.map(|specifier| match specifier {
        ClusterSpecifier::Cluster(name) => ClusterSpecifier::Cluster(known(name)),
        ClusterSpecifier::WeightedClusters(weighted) => {
            let share = |one: ClusterWeight| ClusterWeight {
                name: known(one.name),
                weight: one.weight,
                ..Default::default()
            };
            ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters: weighted.clusters.into_iter().map(share).collect(),
            })
        }
    });
    let limit = limit(&action.timeout, action.retry_policy.as_ref());
    Action::Route(RouteAction {
        cluster_specifier: specifier,
        timeout: action.timeout,
        retry_policy: action.retry_policy.and_then(retry),
        hash_policy: action.hash_policy,
        max_stream_duration: limit.map(|limit| MaxStreamDuration {
            max_stream_duration: Some(limit),
        }),
        ..Default::default()
    })
}

/// The limit of a whole call. gRPC has none for an attempt; where there is one attempt alone, that is the call.
fn limit(timeout: &Option<Duration>, retry: Option<&RetryPolicy>) -> Option<Duration> {
    let alone = retry.filter(|policy| retries(policy) == 0);
    let attempt = alone.and_then(|policy| policy.per_try_timeout);
    let limits = timeout.iter().chain(&attempt).copied();
    let limits = limits.filter(|limit| *limit != Duration::default());
    limits.min_by_key(|limit| (limit.seconds, limit.nanos))
}

fn retries(policy: &RetryPolicy) -> u32 {
    policy.num_retries.map_or(0, |number| number.value)
}

/// gRPC refuses a policy of no retries.
fn retry(policy: RetryPolicy) -> Option<RetryPolicy> {
    let known = policy.retry_on.split(',');
    let known: Vec<&str> = known.filter(|token| RETRIED.contains(token)).collect();
    let any = !known.is_empty() && retries(&policy) > 0;
    any.then(|| RetryPolicy {
        retry_on: known.join(","),
        num_retries: policy.num_retries,
        retry_back_off: policy.retry_back_off,
        ..Default::default()
    })
}

fn leads_nowhere(route: &Route) -> bool {
    let Some(Action::Route(action)) = &route.action else {
        return false;
    };
    match &action.cluster_specifier {
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted.clusters.iter().any(|one| one.name == NOWHERE)
        }
        Some(ClusterSpecifier::Cluster(name)) => name == NOWHERE,
        None => false,
    }
}
