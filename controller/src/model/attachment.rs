//! Which routes are attached to which service.

use imbl::{OrdMap, OrdSet};

use super::{
    Kind, Mesh, Name, ObjectKey,
    kinds::http_route::{BackendRef, ParentRef},
};

/// A service → the routes that name it as a parent. Derived, never stored.
pub(super) type AttachmentIndex = OrdMap<Name, OrdSet<ObjectKey>>;

/// A backend of a route, with the numbers of its rule and of itself in it.
pub type NumberedBackend<'a> = (usize, usize, &'a BackendRef);

impl Mesh {
    /// The parents that a route names; none where there is no such route.
    pub fn parents_of(&self, route: &ObjectKey) -> &[ParentRef] {
        let found = match route.kind() {
            Kind::HttpRoute => {
                let entry = self.http_routes.get(&route.name);
                entry.map(|entry| &entry.object.spec.parent_refs[..])
            }
            Kind::GrpcRoute => {
                let entry = self.grpc_routes.get(&route.name);
                entry.map(|entry| &entry.object.spec.parent_refs[..])
            }
            _ => None,
        };
        found.unwrap_or_default()
    }

    /// The backends that a route names.
    pub fn backends_of(&self, route: &ObjectKey) -> Vec<NumberedBackend<'_>> {
        fn numbered<'a>(
            rules: impl Iterator<Item = &'a Vec<BackendRef>>,
        ) -> Vec<NumberedBackend<'a>> {
            let of_rule = |(rule, backends): (usize, &'a Vec<BackendRef>)| {
                let all = backends.iter().enumerate();
                all.map(move |(index, backend)| (rule, index, backend))
            };
            rules.enumerate().flat_map(of_rule).collect()
        }
        let found = match route.kind() {
            Kind::HttpRoute => self.http_routes.get(&route.name).map(|entry| {
                let rules = entry.object.spec.rules.iter();
                numbered(rules.map(|rule| &rule.backend_refs))
            }),
            Kind::GrpcRoute => self.grpc_routes.get(&route.name).map(|entry| {
                let rules = entry.object.spec.rules.iter();
                numbered(rules.map(|rule| &rule.backend_refs))
            }),
            _ => None,
        };
        found.unwrap_or_default()
    }

    /// Every route, in the order of kinds and names.
    pub fn routes(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        let http = self.http_routes.keys().cloned();
        let grpc = self.grpc_routes.keys().cloned();
        http.map(|name| ObjectKey::new(Kind::HttpRoute, name))
            .chain(grpc.map(|name| ObjectKey::new(Kind::GrpcRoute, name)))
    }

    /// The routes that name this service, or one of its ports, as a parent.
    pub fn attached(&self, service: &Name) -> impl Iterator<Item = &ObjectKey> {
        self.attachments.get(service).into_iter().flatten()
    }

    /// The routes of one namespace that concern a port, by name.
    pub fn routes_at(&self, service: &Name, port: u16, namespace: &str) -> Vec<&ObjectKey> {
        let here = self
            .attached(service)
            .filter(|route| route.name.namespace == namespace);
        let concerned = |parent: &ParentRef, route: &ObjectKey| {
            parent.concerns(port) && parent.service(&route.name) == *service
        };
        here.filter(|route| {
            let mut parents = self.parents_of(route).iter();
            parents.any(|parent| concerned(parent, route))
        })
        .collect()
    }

    /// Whether a namespace has routes of its own to a service of another: for its clients they stand in place of that one's.
    pub fn consumes(&self, namespace: &str, service: &Name) -> bool {
        let mut routes = self.attached(service);
        namespace != service.namespace && routes.any(|route| route.name.namespace == namespace)
    }

    /// Notes a route's parents.
    pub(super) fn attach(&mut self, route: &ObjectKey) {
        for service in self.services_routed_by(route) {
            let routes = self.attachments.entry(service).or_default();
            routes.insert(route.clone());
        }
    }

    /// Forgets a route's parents: before it changes or goes.
    pub(super) fn detach(&mut self, route: &ObjectKey) {
        for service in self.services_routed_by(route) {
            let mut routes = self.attachments.remove(&service).unwrap_or_default();
            routes.remove(route);
            if !routes.is_empty() {
                self.attachments.insert(service, routes);
            }
        }
    }

    /// The services that a route names as parents.
    pub fn services_routed_by(&self, route: &ObjectKey) -> Vec<Name> {
        let parents = self.parents_of(route).iter();
        parents.map(|parent| parent.service(&route.name)).collect()
    }
}
