//! One hash a type over all that could be served, to compare controllers by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use xds_api::type_url::TypeUrl;

use super::cache::{Cache, Published};
use super::names::{self, ListenerName, ServicePort};
use super::scope::{Client, Dialect, Scope};
use super::translate::{Link, envoy, locality};
use crate::model::{Mesh, MeshMode, Name};

/// SHA-256 over name and version of every resource, by type: those of the native dialect under the type's name, Envoy's under `envoy <type>`, those of
/// gRPC programs under `grpc <type>`.
pub(crate) fn resource_hashes(cache: &Cache, published: &Published) -> BTreeMap<String, String> {
    let mesh = &published.mesh;
    let hash = |dialect, kind: TypeUrl, names: BTreeSet<Arc<str>>| {
        let scope = Scope::settled(dialect);
        let localities = match kind {
            TypeUrl::Endpoints => localities(mesh, dialect),
            _ => BTreeSet::new(),
        };
        let mut hash = Context::new(&SHA256);
        for name in names {
            let shared = cache.get(scope, published, kind, &name);
            let shared = shared.map(|found| found.resource.version());
            if let Some(version) = &shared {
                hash.update(name.as_bytes());
                hash.update(&[0]);
                hash.update(version.as_bytes());
            }
            let consumers = consumers(mesh, kind, &name).into_iter().map(|namespace| {
                let client = Client {
                    namespace,
                    locality: "",
                };
                (namespace, client)
            });
            let near = localities.iter().map(|locality| {
                let client = Client {
                    namespace: "",
                    locality,
                };
                (*locality, client)
            });
            for (what, client) in consumers.chain(near) {
                let found = cache.get_for(client, scope, published, kind, &name);
                let version = found.map(|found| found.resource.version());
                if let Some(version) = version.filter(|_| version != shared) {
                    hash.update(what.as_bytes());
                    hash.update(&[0]);
                    hash.update(version.as_bytes());
                }
            }
        }
        hex::encode(hash.finish())
    };
    let native = TypeUrl::ALL.map(|kind| {
        let hash = hash(Dialect::Native, kind, all_names(mesh, kind));
        (kind.short().to_owned(), hash)
    });
    let mut reached = reached_by_envoys(cache, published);
    let envoy = TypeUrl::ALL.map(|kind| {
        let names = reached.remove(&kind).unwrap_or_default();
        let hash = hash(Dialect::Envoy, kind, names);
        (format!("envoy {}", kind.short()), hash)
    });
    let grpc = TypeUrl::ALL.map(|kind| {
        let hash = hash(Dialect::Grpc, kind, grpc_names(mesh, kind));
        (format!("grpc {}", kind.short()), hash)
    });
    native.into_iter().chain(envoy).chain(grpc).collect()
}

/// The namespaces whose clients see routes of their own under this name.
fn consumers<'a>(mesh: &'a Mesh, kind: TypeUrl, name: &str) -> BTreeSet<&'a str> {
    let port = ServicePort::parse(name).filter(|_| kind == TypeUrl::Route);
    let Some(port) = port else {
        return BTreeSet::new();
    };
    let namespaces = mesh
        .attached(&port.service)
        .map(|route| route.name.namespace.as_str());
    namespaces
        .filter(|namespace| *namespace != port.service.namespace)
        .collect()
}

/// Where the clients of a dialect are.
fn localities(mesh: &Mesh, dialect: Dialect) -> BTreeSet<&str> {
    let mode = match dialect {
        Dialect::Native => MeshMode::Native,
        Dialect::Envoy => MeshMode::Envoy,
        Dialect::Grpc => MeshMode::Grpc,
    };
    let registered = mesh.instances().iter();
    let of_kind = registered.filter(|(_, entry)| entry.instance.mesh() == mode);
    let localities = of_kind.map(|(name, _)| locality(mesh, name));
    localities.filter(|locality| !locality.is_empty()).collect()
}

/// What gRPC programs can ask for; a server at one address for all that it may be bound to.
pub(crate) fn grpc_names(mesh: &Mesh, kind: TypeUrl) -> BTreeSet<Arc<str>> {
    if kind != TypeUrl::Listener {
        return all_names(mesh, kind);
    }
    let targets = ports(mesh).map(ListenerName::Target);
    let registered = mesh.instances().iter();
    let serving = registered.flat_map(|(name, entry)| {
        let ports = entry.instance.ports.iter();
        let numbers = ports.filter_map(|port| u16::try_from(port.port).ok());
        numbers.map(|number| {
            let at = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), number);
            ListenerName::Serving(name.clone(), at)
        })
    });
    let all = targets.chain(serving);
    all.map(|name| name.resource()).collect()
}

/// Everything that one Envoy or another is served, and what any would be.
fn reached_by_envoys(
    cache: &Cache,
    published: &Published,
) -> BTreeMap<TypeUrl, BTreeSet<Arc<str>>> {
    let mesh = &published.mesh;
    let registered = mesh.instances().iter();
    let envoys = registered.filter(|(_, entry)| entry.instance.envoy.is_some());
    let everybody = Name::new("", "");
    let names = envoys.map(|(name, _)| name).chain([&everybody]);
    let mut open: Vec<Link> = names.flat_map(|name| envoy::roots(mesh, name)).collect();
    let mut reached: BTreeMap<TypeUrl, BTreeSet<Arc<str>>> = BTreeMap::new();
    while let Some((kind, name)) = open.pop() {
        if reached.entry(kind).or_default().insert(name.clone())
            && let Some(found) = cache.get(Scope::settled(Dialect::Envoy), published, kind, &name)
        {
            open.extend(found.links.iter().cloned());
        }
    }
    reached
}

pub(crate) fn all_names(mesh: &Mesh, kind: TypeUrl) -> BTreeSet<Arc<str>> {
    match kind {
        TypeUrl::Listener => listener_names(mesh),
        TypeUrl::Secret => BTreeSet::from([names::roots(mesh.trust_domain())]),
        TypeUrl::Extension => BTreeSet::new(),
        TypeUrl::Cluster | TypeUrl::Endpoints | TypeUrl::Route => {
            ports(mesh).map(|port| port.resource()).collect()
        }
    }
}

fn ports(mesh: &Mesh) -> impl Iterator<Item = ServicePort> + '_ {
    mesh.services().iter().flat_map(|(name, entry)| {
        let port = |port: u16| ServicePort {
            service: name.clone(),
            port,
        };
        entry
            .object
            .spec
            .ports
            .iter()
            .map(move |one| port(one.port))
    })
}

fn listener_names(mesh: &Mesh) -> BTreeSet<Arc<str>> {
    let workloads = mesh
        .workloads()
        .keys()
        .chain(mesh.instances().keys())
        .cloned();
    let hosts = mesh.services().keys().cloned().map(ListenerName::Host);
    let addresses = ports(mesh).flat_map(|port| {
        let addresses = mesh.addresses_of(&port.service).into_iter();
        addresses.map(move |address| ListenerName::Address(SocketAddr::new(address, port.port)))
    });
    workloads
        .map(ListenerName::Inbound)
        .chain(hosts)
        .chain(ports(mesh).map(ListenerName::Port))
        .chain(addresses)
        .map(|name| name.resource())
        .collect()
}
