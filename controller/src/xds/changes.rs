//! Which resources a change of the mesh may touch. Too many is harmless (versions are hashes), too few would be a bug.

use std::collections::BTreeSet;
use std::net::IpAddr;

use xds_api::type_url::TypeUrl;

use super::names::{self, ListenerName};
use super::scope::Dialect;
use crate::model::{Change, Kind, Mesh, Name, ObjectKey, Rollout};

/// Resources that have their inputs in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Unit {
    /// A service's clusters, its `host/…` and its listeners by name.
    Service(Name),
    /// The listeners at a virtual address.
    Address(IpAddr),
    /// A service's routes.
    Routes(Name),
    /// A service's endpoints.
    Endpoints(Name),
    /// A workload's `in/…`, and what else is an Envoy's or a gRPC program's own.
    Workload(Name),
    /// The trust roots.
    Roots,
}

/// How the names of a unit's resources of one type are found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Names {
    One(String),
    Prefix(String),
}

impl Unit {
    /// The names of its resources in a dialect, by type.
    pub(crate) fn names(&self, dialect: Dialect) -> Vec<(TypeUrl, Names)> {
        match self {
            Self::Service(service) => {
                let host = ListenerName::Host(service.clone()).resource();
                vec![
                    (
                        TypeUrl::Cluster,
                        Names::Prefix(names::service_prefix(service)),
                    ),
                    (TypeUrl::Listener, Names::One(host.to_string())),
                    (
                        TypeUrl::Listener,
                        Names::Prefix(names::port_prefix(service)),
                    ),
                    (
                        TypeUrl::Listener,
                        Names::Prefix(names::target_prefix(service)),
                    ),
                ]
            }
            Self::Address(address) => {
                vec![(
                    TypeUrl::Listener,
                    Names::Prefix(names::address_prefix(*address)),
                )]
            }
            Self::Routes(service) => {
                vec![(
                    TypeUrl::Route,
                    Names::Prefix(names::service_prefix(service)),
                )]
            }
            Self::Endpoints(service) => {
                let ports = || Names::Prefix(names::service_prefix(service));
                let peers = match dialect {
                    // Whom to expect behind a service stands in its clusters.
                    Dialect::Grpc => (TypeUrl::Cluster, ports()),
                    _ => {
                        let peers = names::peers(service);
                        (TypeUrl::Secret, Names::One(peers.to_string()))
                    }
                };
                vec![(TypeUrl::Endpoints, ports()), peers]
            }
            Self::Workload(workload) => {
                let inbound = ListenerName::Inbound(workload.clone()).resource();
                let outbound = ListenerName::Outbound(workload.clone()).resource();
                vec![
                    (TypeUrl::Listener, Names::One(inbound.to_string())),
                    (TypeUrl::Listener, Names::One(outbound.to_string())),
                    (TypeUrl::Listener, Names::Prefix(format!("up/{workload}/"))),
                    (
                        TypeUrl::Listener,
                        Names::Prefix(format!("serve/{workload}/")),
                    ),
                    (TypeUrl::Cluster, Names::Prefix(format!("app/{workload}:"))),
                    (
                        TypeUrl::Extension,
                        Names::Prefix(format!("authz/{workload}:")),
                    ),
                    (
                        TypeUrl::Secret,
                        Names::Prefix(format!("callers/{workload}:")),
                    ),
                ]
            }
            Self::Roots => vec![
                (TypeUrl::Secret, Names::Prefix(names::roots("").to_string())),
                (TypeUrl::Secret, Names::Prefix("peers/".to_owned())),
                (TypeUrl::Secret, Names::Prefix("callers/".to_owned())),
            ],
        }
    }
}

/// What may be touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// Anything.
    All,
    /// Only this.
    Units(BTreeSet<Unit>),
}

impl Touched {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Units(mut units), Self::Units(more)) => {
                units.extend(more);
                Self::Units(units)
            }
            _ => Self::All,
        }
    }
}

/// What may differ between the resources of two states of the mesh, whoever looks: a client may also pass from what everybody sees to what is rolled
/// out, or back.
pub(crate) fn touched(older: &Mesh, newer: &Mesh) -> Touched {
    let mut all = between(older, newer);
    let (before, after) = (older.rollout(), newer.rollout());
    if before.is_some() || after.is_some() {
        all = all.and(between(ahead(older), ahead(newer)));
    }
    let stage = |rollout: &Rollout| (rollout.id(), rollout.through());
    if before.map(stage) != after.map(stage) {
        all = all.and(between(older, ahead(older)));
        all = all.and(between(newer, ahead(newer)));
    }
    all
}

fn ahead(mesh: &Mesh) -> &Mesh {
    mesh.rollout().map_or(mesh, Rollout::mesh)
}

fn between(older: &Mesh, newer: &Mesh) -> Touched {
    let mut units = BTreeSet::new();
    let meshes = [older, newer];
    for change in older.diff(newer) {
        match change {
            Change::Incarnation | Change::Level => return Touched::All,
            Change::Object(key) if key.kind() == Kind::MeshSettings => return Touched::All,
            Change::Roots => {
                units.insert(Unit::Roots);
                if older.trust_domain() != newer.trust_domain() {
                    return Touched::All;
                }
            }
            Change::Object(key) => object(&meshes, &key, &mut units),
            Change::Instance(name) => workload(&meshes, &name, &mut units),
            Change::Vip(service) => addressed(&meshes, &service, &mut units),
        }
    }
    Touched::Units(units)
}

fn object(meshes: &[&Mesh; 2], key: &ObjectKey, units: &mut BTreeSet<Unit>) {
    let name = &key.name;
    match key.kind() {
        Kind::Service => service(meshes, name, units),
        Kind::HttpRoute | Kind::GrpcRoute => {
            let services = meshes.iter().flat_map(|mesh| mesh.services_routed_by(key));
            units.extend(services.map(Unit::Routes));
        }
        Kind::TrafficPolicy => {
            let policies = meshes
                .iter()
                .filter_map(|mesh| mesh.traffic_policies().get(name));
            for policy in policies {
                let target = &policy.object.spec.target_ref.name;
                let target = Name::new(name.namespace.as_str(), target.as_str());
                units.extend([
                    Unit::Service(target.clone()),
                    Unit::Routes(target.clone()),
                    // Whether near ones come first depends on how it is balanced.
                    Unit::Endpoints(target),
                ]);
            }
        }
        Kind::AuthorizationPolicy => namespace_workloads(meshes, &name.namespace, units),
        Kind::Workload => workload(meshes, name, units),
        // `touched` has answered it with everything.
        Kind::MeshSettings => {}
    }
}

/// A service: all of its own, the routes that send to it, and the workloads behind it where a policy targets it.
fn service(meshes: &[&Mesh; 2], name: &Name, units: &mut BTreeSet<Unit>) {
    addressed(meshes, name, units);
    units.extend([Unit::Routes(name.clone()), Unit::Endpoints(name.clone())]);
    for mesh in meshes {
        for route in mesh.routes().filter(|route| sends_to(mesh, route, name)) {
            units.extend(
                mesh.services_routed_by(&route)
                    .into_iter()
                    .map(Unit::Routes),
            );
        }
        let selected = mesh.services().get(name).filter(|_| targeted(mesh, name));
        let selector = selected.map(|entry| &entry.object.spec.selector);
        let behind = selector.map(|selector| mesh.select(&name.namespace, selector));
        units.extend(behind.into_iter().flatten().map(Unit::Workload));
    }
}

fn addressed(meshes: &[&Mesh; 2], service: &Name, units: &mut BTreeSet<Unit>) {
    units.insert(Unit::Service(service.clone()));
    let addresses = meshes.iter().flat_map(|mesh| mesh.addresses_of(service));
    units.extend(addresses.map(Unit::Address));
}

fn sends_to(mesh: &Mesh, route: &ObjectKey, service: &Name) -> bool {
    let backends = mesh.backends_of(route);
    backends
        .into_iter()
        .any(|(_, _, backend)| backend.service(&route.name) == *service)
}

fn targeted(mesh: &Mesh, service: &Name) -> bool {
    let all = mesh
        .authorization_policies()
        .range(Name::new(service.namespace.as_str(), "")..);
    let here = all.take_while(|(name, _)| name.namespace == service.namespace);
    let targets = here.filter_map(|(_, entry)| entry.object.spec.target_ref.as_ref());
    targets
        .into_iter()
        .any(|target| target.name == service.name)
}

/// A workload or its sidecar: its own resource, and the endpoints of every service that did or does select it.
fn workload(meshes: &[&Mesh; 2], name: &Name, units: &mut BTreeSet<Unit>) {
    units.insert(Unit::Workload(name.clone()));
    for mesh in meshes {
        let labels = mesh.merged_labels(name);
        let services = mesh.services_selecting(&name.namespace, &labels);
        units.extend(services.into_iter().cloned().map(Unit::Endpoints));
    }
}

fn namespace_workloads(meshes: &[&Mesh; 2], namespace: &str, units: &mut BTreeSet<Unit>) {
    let first = Name::new(namespace, "");
    for mesh in meshes {
        let workloads = mesh
            .workloads()
            .range(first.clone()..)
            .map(|(name, _)| name);
        let workloads = workloads.take_while(|name| name.namespace == namespace);
        let instances = mesh
            .instances()
            .range(first.clone()..)
            .map(|(name, _)| name);
        let instances = instances.take_while(|name| name.namespace == namespace);
        units.extend(workloads.chain(instances).cloned().map(Unit::Workload));
    }
}
