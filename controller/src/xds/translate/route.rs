//! RDS: what becomes of the requests to one port of a service.

use std::collections::BTreeSet;
use std::sync::Arc;

use xds_api::envoy::config::route::v3::route::Action;
use xds_api::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::Translated;
use super::action::Actions;
use super::matching::{precedence, route_match};
use super::policy::policy;
use super::protocol::{may_be_http, protocol_of};
use crate::model::kinds::http_route::{HttpRouteSpec, Match, ParentRef, Rule};
use crate::model::{Mesh, Name};
use crate::xds::names::ServicePort;
use crate::xds::scope::Dialect;

/// One condition of one rule: what Gateway API orders.
struct Candidate<'a> {
    route: &'a Name,
    rule_number: usize,
    rule: &'a Rule,
    condition: Match,
}

pub(in crate::xds) fn translate(
    dialect: Dialect,
    mesh: &Mesh,
    name: Arc<str>,
    port: &ServicePort,
) -> Option<Translated> {
    let (configuration, clusters) = configuration(dialect, mesh, &name, port)?;
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
) -> Option<(RouteConfiguration, BTreeSet<Arc<str>>)> {
    if !may_be_http(protocol_of(mesh, port)?) {
        return None;
    }
    let policy = policy(mesh, port);
    let mut actions = Actions::new(dialect, mesh, port, &policy);
    let mut candidates = candidates(mesh, port);
    // Ties are settled by the routes' names and the order within a route, which the walk has; the sort keeps it.
    candidates.sort_by_cached_key(|one| precedence(&one.condition));
    let mut routes: Vec<Route> = candidates
        .iter()
        .flat_map(|candidate| candidate.routes(&mut actions))
        .collect();
    if routes.is_empty() && !has_routes(mesh, port) {
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
        let fitting = actions.of(self.route, self.rule, &self.condition);
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

/// Every condition of every rule that is attached to the port, by the routes' names.
fn candidates<'a>(mesh: &'a Mesh, port: &ServicePort) -> Vec<Candidate<'a>> {
    let mut all = Vec::new();
    for (route, spec) in attached(mesh, port) {
        for (rule_number, rule) in spec.rules.iter().enumerate() {
            let every = [Match::default()];
            let conditions = if rule.matches.is_empty() {
                &every[..]
            } else {
                &rule.matches
            };
            all.extend(conditions.iter().cloned().map(|condition| Candidate {
                route,
                rule_number,
                rule,
                condition,
            }));
        }
    }
    all
}

/// A service with routes serves only what they match.
fn has_routes(mesh: &Mesh, port: &ServicePort) -> bool {
    attached(mesh, port).next().is_some()
}

fn attached<'a>(
    mesh: &'a Mesh,
    port: &ServicePort,
) -> impl Iterator<Item = (&'a Name, &'a HttpRouteSpec)> {
    let port = port.clone();
    let first = Name::new(port.service.namespace.as_str(), "");
    let namespace = port.service.namespace.clone();
    let here = mesh
        .http_routes()
        .range(first..)
        .take_while(move |(name, _)| name.namespace == namespace);
    let meant = move |parent: &ParentRef| {
        parent.name == port.service.name && parent.port.is_none_or(|number| number == port.port)
    };
    here.map(|(name, entry)| (name, &entry.object.spec))
        .filter(move |(_, spec)| spec.parent_refs.iter().any(&meant))
}
