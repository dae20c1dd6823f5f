//! What a rule does with a request: send it on, redirect it or answer it.

use std::collections::BTreeSet;
use std::sync::Arc;

use xds_api::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use xds_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use xds_api::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use xds_api::envoy::config::route::v3::retry_policy::RetryBackOff;
use xds_api::envoy::config::route::v3::route::Action;
use xds_api::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use xds_api::envoy::config::route::v3::route_match::PathSpecifier;
use xds_api::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use xds_api::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, RetryPolicy, RouteAction, WeightedCluster,
};

use super::any::{duration, number};
use super::envoy;
use super::policy::Policy;
use super::rewrite::{Rewrite, redirects, rewrite};
use crate::model::kinds::Duration;
use crate::model::kinds::http_route::{
    BackendRef, Filter, Header, HeaderModifier, Match, Redirect, Rule, Scheme, UrlRewrite,
};
use crate::model::kinds::traffic_policy::{Retries, RetryOn};
use crate::model::{Mesh, Name};
use crate::xds::names::ServicePort;
use crate::xds::scope::Dialect;

/// What a policy without conditions retries: what certainly, or very likely, was not processed.
const DEFAULT_RETRY_ON: [RetryOn; 3] = [
    RetryOn::ConnectFailure,
    RetryOn::RefusedStream,
    RetryOn::GatewayError,
];
/// The longest pause before a retry, as a multiple of the first, where a policy does not say.
const BACKOFF_FACTOR: u64 = 10;
/// The answer to a request where there is no backend to send it to, by Gateway API.
pub(in crate::xds) const NO_BACKEND: u32 = 500;
/// The same for a call: it ends with UNAVAILABLE.
pub(in crate::xds) const UNAVAILABLE: u32 = 503;

/// Changes to headers, in Envoy's four lists.
#[derive(Debug, Default)]
pub(in crate::xds) struct HeaderChanges {
    pub(in crate::xds) request_add: Vec<HeaderValueOption>,
    pub(in crate::xds) request_remove: Vec<String>,
    pub(in crate::xds) response_add: Vec<HeaderValueOption>,
    pub(in crate::xds) response_remove: Vec<String>,
}

/// Makes the actions of one port's routes, and notes the clusters that they need.
pub(in crate::xds) struct Actions<'a> {
    dialect: Dialect,
    mesh: &'a Mesh,
    port: &'a ServicePort,
    policy: &'a Policy,
    clusters: BTreeSet<Arc<str>>,
}

impl<'a> Actions<'a> {
    pub(in crate::xds) fn new(
        dialect: Dialect,
        mesh: &'a Mesh,
        port: &'a ServicePort,
        policy: &'a Policy,
    ) -> Self {
        Self {
            dialect,
            mesh,
            port,
            policy,
            clusters: BTreeSet::new(),
        }
    }

    /// Every cluster that an action so far sends to.
    pub(in crate::xds) fn clusters(self) -> BTreeSet<Arc<str>> {
        self.clusters
    }

    /// Sends to the service itself: what a service without routes does.
    pub(in crate::xds) fn own(&mut self) -> Action {
        let cluster = self.need(self.port);
        Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
            timeout: Some(duration(self.policy.timeout.unwrap_or_default())),
            retry_policy: self.retry(None),
            ..self.base()
        })
    }

    /// What a rule does, with the path to match where that differs from the condition's own. `without`: the answer where there is no backend.
    pub(in crate::xds) fn of(
        &mut self,
        route: &Name,
        rule: &Rule,
        condition: &Match,
        without: u32,
    ) -> Vec<(Option<PathSpecifier>, Action)> {
        let redirect = rule.filters.iter().find_map(|filter| match filter {
            Filter::RequestRedirect { request_redirect } => Some(request_redirect),
            _ => None,
        });
        match redirect {
            Some(redirect) => self.redirect(redirect, condition),
            None => vec![(None, self.forward(route, rule, condition, without))],
        }
    }

    /// What the native proxy knows from elsewhere: it answers a share without a cluster with 500, and a cluster says what it hashes by.
    fn base(&self) -> RouteAction {
        if self.dialect == Dialect::Native {
            return RouteAction::default();
        }
        envoy::action::base(self.policy)
    }

    fn forward(&mut self, route: &Name, rule: &Rule, condition: &Match, without: u32) -> Action {
        let weighted: Vec<&BackendRef> = rule
            .backend_refs
            .iter()
            .filter(|backend| backend.weight > 0)
            .collect();
        let target = |backend: &BackendRef| ServicePort {
            service: backend.service(route),
            port: backend.port,
        };
        if !weighted.iter().any(|backend| self.exists(&target(backend))) {
            return Action::DirectResponse(DirectResponseAction { status: without });
        }
        let specifier = match weighted.as_slice() {
            [only] if only.filters.is_empty() => {
                ClusterSpecifier::Cluster(self.need(&target(only)))
            }
            several => {
                let clusters = several
                    .iter()
                    .map(|one| self.weight(&target(one), one))
                    .collect();
                ClusterSpecifier::WeightedClusters(WeightedCluster { clusters })
            }
        };
        let timeouts = rule.timeouts.unwrap_or_default();
        let timeout = timeouts.request.or(self.policy.timeout).unwrap_or_default();
        let mut action = RouteAction {
            cluster_specifier: Some(specifier),
            timeout: Some(duration(timeout)),
            retry_policy: self.retry(timeouts.backend_request),
            ..self.base()
        };
        for filter in &rule.filters {
            if let Filter::UrlRewrite { url_rewrite } = filter {
                apply_rewrite(&mut action, url_rewrite, condition);
            }
        }
        Action::Route(action)
    }

    fn weight(&mut self, target: &ServicePort, backend: &BackendRef) -> ClusterWeight {
        let name = match self.exists(target) {
            true => self.need(target),
            // A share without a cluster: the proxy answers it with 500.
            false => target.to_string(),
        };
        let changes = self.header_changes(&backend.filters);
        ClusterWeight {
            name,
            weight: number(backend.weight),
            request_headers_to_add: changes.request_add,
            request_headers_to_remove: changes.request_remove,
            response_headers_to_add: changes.response_add,
            response_headers_to_remove: changes.response_remove,
        }
    }

    fn exists(&self, target: &ServicePort) -> bool {
        let service = self.mesh.services().get(&target.service);
        service.is_some_and(|entry| entry.object.spec.port(target.port).is_some())
    }

    fn need(&mut self, target: &ServicePort) -> String {
        let name = target.to_string();
        self.clusters.insert(name.as_str().into());
        name
    }

    /// `attempt`: a route's own limit for one attempt, which wins over the policy's.
    fn retry(&self, attempt: Option<Duration>) -> Option<RetryPolicy> {
        let attempt = attempt.filter(|attempt| !attempt.is_zero());
        let policy = match &self.policy.retries {
            Some(retries) => Some(retry_policy(retries, attempt)),
            None => attempt.map(|attempt| RetryPolicy {
                retry_on: tokens(&DEFAULT_RETRY_ON).0,
                num_retries: number(0),
                per_try_timeout: Some(duration(attempt)),
                ..Default::default()
            }),
        };
        match self.dialect {
            Dialect::Native | Dialect::Grpc => policy,
            Dialect::Envoy => Some(envoy::action::retry(policy)),
        }
    }

    /// The header changes among some filters.
    pub(in crate::xds) fn header_changes(&self, filters: &[Filter]) -> HeaderChanges {
        let mut changes = HeaderChanges::default();
        for filter in filters {
            match filter {
                Filter::RequestHeaderModifier {
                    request_header_modifier: modifier,
                } => {
                    changes.request_add.extend(additions(modifier));
                    changes.request_remove.extend(removals(modifier));
                }
                Filter::ResponseHeaderModifier {
                    response_header_modifier: modifier,
                } => {
                    changes.response_add.extend(additions(modifier));
                    changes.response_remove.extend(removals(modifier));
                }
                Filter::RequestRedirect { .. } | Filter::UrlRewrite { .. } => {}
            }
        }
        changes
    }

    /// Envoy writes whatever port it is told into the location; one that goes without saying is left out.
    fn redirect_port(&self, redirect: &Redirect) -> u32 {
        let port = redirect_port(redirect, self.port.port);
        let goes_without_saying = match redirect.scheme.unwrap_or(Scheme::Http) {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        match self.dialect {
            Dialect::Envoy if port == goes_without_saying => 0,
            _ => u32::from(port),
        }
    }

    fn redirect(
        &self,
        redirect: &Redirect,
        condition: &Match,
    ) -> Vec<(Option<PathSpecifier>, Action)> {
        let paths = match &redirect.path {
            Some(modifier) => {
                let paths = redirects(condition, modifier).into_iter();
                paths.map(|(path, to)| (path, Some(to))).collect()
            }
            None => vec![(None, None)],
        };
        let action = |to: Option<PathRewriteSpecifier>| {
            Action::Redirect(RedirectAction {
                scheme_rewrite_specifier: redirect.scheme.map(|scheme| {
                    SchemeRewriteSpecifier::SchemeRedirect(scheme_name(scheme).into())
                }),
                host_redirect: redirect.hostname.clone().unwrap_or_default(),
                port_redirect: self.redirect_port(redirect),
                path_rewrite_specifier: to,
                response_code: response_code(redirect.status_code) as i32,
            })
        };
        paths
            .into_iter()
            .map(|(path, to)| (path, action(to)))
            .collect()
    }
}

fn apply_rewrite(action: &mut RouteAction, url: &UrlRewrite, condition: &Match) {
    if let Some(host) = &url.hostname {
        action.host_rewrite_specifier =
            Some(HostRewriteSpecifier::HostRewriteLiteral(host.clone()));
    }
    match url
        .path
        .as_ref()
        .map(|modifier| rewrite(condition, modifier))
    {
        Some(Rewrite::Prefix(prefix)) => action.prefix_rewrite = prefix,
        Some(Rewrite::Regex(regex)) => action.regex_rewrite = Some(regex),
        None => {}
    }
}

fn retry_policy(retries: &Retries, attempt: Option<Duration>) -> RetryPolicy {
    let (retry_on, retriable_status_codes) = match retries.on.as_slice() {
        [] => tokens(&DEFAULT_RETRY_ON),
        on => tokens(on),
    };
    let limit = attempt.or(retries.per_try_timeout.filter(|limit| !limit.is_zero()));
    let back_off = retries.backoff.map(|backoff| {
        let max = backoff.max.unwrap_or(Duration::from_millis(
            backoff.base.as_millis() * BACKOFF_FACTOR,
        ));
        RetryBackOff {
            base_interval: Some(duration(backoff.base)),
            max_interval: Some(duration(max)),
        }
    });
    RetryPolicy {
        retry_on,
        num_retries: number(retries.attempts),
        per_try_timeout: limit.map(duration),
        retriable_status_codes,
        retry_back_off: back_off,
        ..Default::default()
    }
}

/// Envoy's tokens, separated by commas, and the status codes beside them.
fn tokens(on: &[RetryOn]) -> (String, Vec<u32>) {
    let mut words: Vec<&str> = on.iter().filter_map(|one| token(*one)).collect();
    let codes: Vec<u32> = on
        .iter()
        .filter_map(|one| match one {
            RetryOn::Status(code) => Some(u32::from(*code)),
            _ => None,
        })
        .collect();
    if !codes.is_empty() {
        words.push("retriable-status-codes");
    }
    (words.join(","), codes)
}

fn token(on: RetryOn) -> Option<&'static str> {
    Some(match on {
        RetryOn::ServerError => "5xx",
        RetryOn::GatewayError => "gateway-error",
        RetryOn::ConnectFailure => "connect-failure",
        RetryOn::Reset => "reset",
        RetryOn::RefusedStream => "refused-stream",
        RetryOn::Cancelled => "cancelled",
        RetryOn::DeadlineExceeded => "deadline-exceeded",
        RetryOn::ResourceExhausted => "resource-exhausted",
        RetryOn::Unavailable => "unavailable",
        RetryOn::Internal => "internal",
        RetryOn::Status(_) => return None,
    })
}

fn additions(modifier: &HeaderModifier) -> impl Iterator<Item = HeaderValueOption> + '_ {
    let option = |header: &Header, action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue {
            key: header.name.to_ascii_lowercase(),
            value: header.value.clone(),
        }),
        append_action: action as i32,
    };
    let set = modifier.set.iter();
    let set = set.map(move |header| option(header, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = modifier.add.iter();
    set.chain(add.map(move |header| option(header, HeaderAppendAction::AppendIfExistsOrAdd)))
}

fn removals(modifier: &HeaderModifier) -> impl Iterator<Item = String> + '_ {
    modifier.remove.iter().map(|name| name.to_ascii_lowercase())
}

fn scheme_name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}

/// By Gateway API: as written, else the scheme's well-known port, else the listener's.
fn redirect_port(redirect: &Redirect, listener: u16) -> u16 {
    redirect.port.unwrap_or(match redirect.scheme {
        Some(Scheme::Http) => 80,
        Some(Scheme::Https) => 443,
        None => listener,
    })
}

fn response_code(status: Option<u16>) -> RedirectResponseCode {
    match status {
        Some(301) => RedirectResponseCode::MovedPermanently,
        Some(303) => RedirectResponseCode::SeeOther,
        Some(307) => RedirectResponseCode::TemporaryRedirect,
        Some(308) => RedirectResponseCode::PermanentRedirect,
        // `apply` takes no other codes than these and 302.
        _ => RedirectResponseCode::Found,
    }
}
