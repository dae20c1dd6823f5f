//! RDS: what becomes of the requests to one port of a service.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use xds_api::envoy::config::route::v3::route::Action;
use xds_api::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::Translated;
use super::action::{Actions, NO_BACKEND, UNAVAILABLE};
use super::calls;
use super::matching::{Precedence, precedence, route_match};
use super::policy::policy;
use super::protocol::{may_be_http, protocol_of};
use crate::model::kinds::http_route::{Match, Rule};
use crate::model::kinds::{GrpcRouteSpec, HttpRouteSpec};
use crate::model::{Kind, Mesh, Name, ObjectKey};
use crate::xds::names::ServicePort;
use crate::xds::scope::Dialect;

/// One condition of one rule: what Gateway API orders.
struct Candidate<'a> {
    route: &'a Name,
    rule_number: usize,
    rule: Cow<'a, Rule>,
    condition: Match,
    precedence: Precedence,
    /// The answer where there is no backend.
    without: u32,
}

/// `client`: the namespace whose clients it is for, where that has routes of its own to the service.
pub(in crate::xds) fn translate(
    dialect: Dialect,
    mesh: &Mesh,
    name: Arc<str>,
    port: &ServicePort,
    client: Option<&str>,
) -> Option<Translated> {
    let (configuration, clusters) = configuration(dialect, mesh, &name, port, client)?;
    let links = clusters.into_iter().map(|name| (TypeUrl::Cluster, name));
    let links = links.collect();
    Some(Translated::new(Resource::new(name, &configuration), links))
}

/// The name of the only virtual host, for people. From level 2 on it says the level.
fn host_name(mesh: &Mesh, name: &str) -> String {
    match mesh.level() {
        0..=1 => name.to_owned(),
        level => format!("{name}@{level}"),
    }
}

/// The routes of a port, and the clusters that they send to.
pub(in crate::xds) fn configuration(
    dialect: Dialect,
    mesh: &Mesh,
    name: &str,
    port: &ServicePort,
    client: Option<&str>,
) -> Option<(RouteConfiguration, BTreeSet<Arc<str>>)> {
    if !may_be_http(protocol_of(mesh, port)?) {
        return None;
    }
    let policy = policy(mesh, port);
    let mut actions = Actions::new(dialect, mesh, port, &policy);
    let holding = holding(mesh, port, client);
    let mut candidates = candidates(mesh, &holding);
    // Ties are settled by the routes' names and the order within a route, which the walk has; the sort keeps it.
    candidates.sort_by_key(|one| one.precedence);
    let mut routes: Vec<Route> = candidates
        .iter()
        .flat_map(|candidate| candidate.routes(&mut actions))
        .collect();
    // A service with routes serves only what they match.
    if holding.is_empty() {
        routes.push(Route {
            name: "default".to_owned(),
            r#match: Some(route_match(&Match::default())),
            action: Some(actions.own()),
            ..Default::default()
        });
    }
    let host = VirtualHost {
        name: host_name(mesh, name),
        domains: vec!["*".to_owned()],
        routes,
    };
    let configuration = RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![host],
    };
    Some((configuration, actions.clusters()))
}

impl Candidate<'_> {
    fn routes(&self, actions: &mut Actions<'_>) -> Vec<Route> {
        let name = match &self.rule.name {
            Some(rule) => format!("{}#{rule}", self.route),
            None => format!("{}#{}", self.route, self.rule_number),
        };
        let fitting = actions.of(self.route, &self.rule, &self.condition, self.without);
        let changes = actions.header_changes(&self.rule.filters);
        let route = |(path, action): (Option<_>, Action)| {
            let mut condition = route_match(&self.condition);
            if path.is_some() {
                condition.path_specifier = path;
            }
            Route {
                name: name.clone(),
                r#match: Some(condition),
                action: Some(action),
                request_headers_to_add: changes.request_add.clone(),
                request_headers_to_remove: changes.request_remove.clone(),
                response_headers_to_add: changes.response_add.clone(),
                response_headers_to_remove: changes.response_remove.clone(),
            }
        };
        fitting.into_iter().map(route).collect()
    }
}

/// Every condition of every rule, by the routes' names. They are of one kind: `relations` lets no others stand beside each other.
fn candidates<'a>(mesh: &'a Mesh, routes: &[&'a ObjectKey]) -> Vec<Candidate<'a>> {
    let of = |route: &&'a ObjectKey| match route.kind() {
        Kind::HttpRoute => {
            let entry = mesh.http_routes().get(&route.name);
            entry.map(|entry| requests(&route.name, &entry.object.spec))
        }
        Kind::GrpcRoute => {
            let entry = mesh.grpc_routes().get(&route.name);
            entry.map(|entry| calls(&route.name, &entry.object.spec))
        }
        _ => None,
    };
    routes.iter().filter_map(of).flatten().collect()
}

fn requests<'a>(route: &'a Name, spec: &'a HttpRouteSpec) -> Vec<Candidate<'a>> {
    let mut all = Vec::new();
    for (rule_number, rule) in spec.rules.iter().enumerate() {
        all.extend(or_any(&rule.matches).map(|condition| Candidate {
            route,
            rule_number,
            rule: Cow::Borrowed(rule),
            precedence: precedence(&condition),
            condition,
            without: NO_BACKEND,
        }));
    }
    all
}

fn calls<'a>(route: &'a Name, spec: &'a GrpcRouteSpec) -> Vec<Candidate<'a>> {
    let mut all = Vec::new();
    for (rule_number, rule) in spec.rules.iter().enumerate() {
        all.extend(or_any(&rule.matches).map(|condition| Candidate {
            route,
            rule_number,
            rule: Cow::Owned(rule.forward()),
            precedence: calls::precedence(&condition),
            condition: calls::as_request(&condition),
            without: UNAVAILABLE,
        }));
    }
    all
}

/// A rule without conditions is for everything.
fn or_any<M: Clone + Default>(conditions: &[M]) -> impl Iterator<Item = M> + '_ {
    let any = conditions.is_empty().then(M::default);
    conditions.iter().cloned().chain(any)
}

/// The routes that hold for a client's requests to a port: those of the client's namespace, where it has any, else those of the service's.
fn holding<'a>(mesh: &'a Mesh, port: &ServicePort, client: Option<&str>) -> Vec<&'a ObjectKey> {
    let of = |namespace: &str| mesh.routes_at(&port.service, port.port, namespace);
    let own = client.map(of).filter(|own| !own.is_empty());
    own.unwrap_or_else(|| of(&port.service.namespace))
}
