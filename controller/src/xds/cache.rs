//! The mesh as it is served: one published state, and resources made from it once and shared.
//!
//! A resource is translated when somebody first asks for it and kept until a change may have touched it. Nothing that
//! does not exist is kept, so that no client can fill the cache with names.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use xds_api::mesh_version::MeshVersion;
use xds_api::type_url::TypeUrl;

use super::changes::{Names, Touched, Unit, touched};
use super::names::ServicePort;
use super::scope::{Client, Dialect, Scope};
use super::translate::{Translated, consumer_routes, envoy, grpc, native, near_endpoints};
use crate::model::{Mesh, State};

/// Changes that a stream can catch up with one by one; a stream further behind looks at everything it holds. More than
/// a stream misses in the longest pause of its client, at the pace at which states are published.
const RECENT: usize = 1024;

/// One state of the mesh as streams see it.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// Grows by one with each published state; what streams count by.
    pub(crate) sequence: u64,
    pub(crate) version: MeshVersion,
    pub(crate) mesh: Mesh,
    recent: imbl::Vector<(u64, Arc<Touched>)>,
}

impl Published {
    fn first(state: &State) -> Self {
        let mesh = state.mesh().clone();
        Self {
            sequence: 0,
            version: version(&mesh),
            mesh,
            recent: imbl::Vector::new(),
        }
    }

    /// The next one; `None` where the mesh is the same.
    pub(crate) fn followed_by(&self, mesh: &Mesh) -> Option<Self> {
        if version(mesh) == self.version {
            return None;
        }
        let sequence = self.sequence + 1;
        let mut recent = self.recent.clone();
        recent.push_back((sequence, Arc::new(touched(&self.mesh, mesh))));
        if recent.len() > RECENT {
            recent.pop_front();
        }
        Some(Self {
            sequence,
            version: version(mesh),
            mesh: mesh.clone(),
            recent,
        })
    }

    /// Whether it was made from this state.
    pub(crate) fn is_of(&self, state: &State) -> bool {
        self.version == version(state.mesh())
    }

    /// What was touched after the given sequence; `None` where that is too long ago to know.
    pub(crate) fn since(&self, sequence: u64) -> Option<impl Iterator<Item = &Touched>> {
        let oldest = self
            .recent
            .front()
            .map_or(self.sequence + 1, |(first, _)| *first);
        let later = self
            .recent
            .iter()
            .rev()
            .take_while(move |(one, _)| *one > sequence);
        (sequence + 1 >= oldest).then(|| later.map(|(_, touched)| &**touched))
    }
}

fn version(mesh: &Mesh) -> MeshVersion {
    MeshVersion {
        incarnation: mesh.incarnation(),
        index: mesh.index(),
    }
}

type Table = BTreeMap<Arc<str>, Translated>;
/// Several resources of one name.
type Variants = BTreeMap<Arc<str>, Table>;

/// What clients of one form of the mesh share.
#[derive(Debug, Default)]
struct Tables {
    /// One table a type of resource.
    shared: [Table; TypeUrl::ALL.len()],
    /// Routes by name, and by the namespace whose clients they are for.
    consumers: Variants,
    /// Endpoints by name, and by the locality of the clients that they are for.
    near: Variants,
}

/// Every resource that was asked for and exists, by scope.
#[derive(Debug)]
pub(crate) struct Cache {
    inner: RwLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    published: Arc<Published>,
    scopes: [Tables; Scope::COUNT],
}

impl Cache {
    /// A cache with nothing in it yet.
    pub(crate) fn new(state: &State) -> Self {
        Self::at(Arc::new(Published::first(state)))
    }

    /// A cache of another state, with nothing in it yet.
    pub(crate) fn at(published: Arc<Published>) -> Self {
        Self {
            inner: RwLock::new(Inner {
                published,
                scopes: Default::default(),
            }),
        }
    }

    /// The state that is served now.
    pub(crate) fn published(&self) -> Arc<Published> {
        self.read().published.clone()
    }

    /// Takes a new state and forgets what it may have touched; `None` where the mesh is the same.
    pub(crate) fn publish(&self, state: &State) -> Option<Arc<Published>> {
        let published = Arc::new(self.published().followed_by(state.mesh())?);
        let (_, touched) = published.recent.back()?;
        let mut inner = self.write();
        match &**touched {
            Touched::Units(units) => {
                for scope in Scope::all() {
                    let tables = &mut inner.scopes[scope.index()];
                    let dialect = scope.dialect;
                    units.iter().for_each(|unit| forget(tables, dialect, unit));
                }
            }
            // Another level, among others: it decides how resources are made.
            Touched::All => inner.scopes = Default::default(),
        }
        inner.published = published.clone();
        Some(published)
    }

    /// The resource of this name; `None` where there is none.
    pub(crate) fn get(
        &self,
        scope: Scope,
        published: &Published,
        kind: TypeUrl,
        name: &Arc<str>,
    ) -> Option<Translated> {
        let known = self.read().scopes[scope.index()].shared[kind.index()]
            .get(name)
            .cloned();
        if known.is_some() {
            return known;
        }
        let mesh = scope.mesh(&published.mesh);
        let made = match scope.dialect {
            Dialect::Native => native::translate(mesh, kind, name)?,
            Dialect::Envoy => envoy::translate(mesh, kind, name)?,
            Dialect::Grpc => grpc::translate(mesh, kind, name)?,
        };
        self.keep(scope, published, |tables| {
            let table = &mut tables.shared[kind.index()];
            table.insert(made.resource.name().clone(), made.clone());
        });
        Some(made)
    }

    /// The same as one client sees it: where its namespace has routes of its own to a service, they hold for it; and what is near comes first, which
    /// the native proxy sees to itself.
    pub(crate) fn get_for(
        &self,
        client: Client<'_>,
        scope: Scope,
        published: &Published,
        kind: TypeUrl,
        name: &Arc<str>,
    ) -> Option<Translated> {
        let mesh = scope.mesh(&published.mesh);
        match (kind, ServicePort::parse(name)) {
            (TypeUrl::Route, Some(port)) if mesh.consumes(client.namespace, &port.service) => {
                self.consumed(client.namespace, scope, published, name, &port)
            }
            (TypeUrl::Endpoints, Some(port))
                if scope.dialect != Dialect::Native && !client.locality.is_empty() =>
            {
                self.near(client.locality, scope, published, name, &port)
            }
            _ => self.get(scope, published, kind, name),
        }
    }

    fn near(
        &self,
        here: &str,
        scope: Scope,
        published: &Published,
        name: &Arc<str>,
        port: &ServicePort,
    ) -> Option<Translated> {
        let of_locality = |by_locality: &Table| by_locality.get(here).cloned();
        let known = self.read().scopes[scope.index()]
            .near
            .get(name)
            .and_then(of_locality);
        if known.is_some() {
            return known;
        }
        let shared = self.get(scope, published, TypeUrl::Endpoints, name)?;
        let mesh = scope.mesh(&published.mesh);
        let made = near_endpoints(scope.dialect, mesh, name.clone(), port, here);
        // Mostly none of them is nearer than another.
        let differs = |made: &Translated| made.resource.version() != shared.resource.version();
        let made = made.filter(differs).unwrap_or(shared);
        self.keep(scope, published, |tables| {
            let by_locality = tables.near.entry(made.resource.name().clone());
            by_locality.or_default().insert(here.into(), made.clone());
        });
        Some(made)
    }

    fn consumed(
        &self,
        client: &str,
        scope: Scope,
        published: &Published,
        name: &Arc<str>,
        port: &ServicePort,
    ) -> Option<Translated> {
        let of_client = |by_client: &Table| by_client.get(client).cloned();
        let known = self.read().scopes[scope.index()]
            .consumers
            .get(name)
            .and_then(of_client);
        if known.is_some() {
            return known;
        }
        let mesh = scope.mesh(&published.mesh);
        let made = consumer_routes(scope.dialect, mesh, name.clone(), port, client)?;
        self.keep(scope, published, |tables| {
            let by_client = tables.consumers.entry(made.resource.name().clone());
            by_client.or_default().insert(client.into(), made.clone());
        });
        Some(made)
    }

    /// What was made from a state that is no longer served may be outdated already: it is used, but not kept.
    fn keep(&self, scope: Scope, published: &Published, put: impl FnOnce(&mut Tables)) {
        let mut inner = self.write();
        if inner.published.sequence == published.sequence {
            put(&mut inner.scopes[scope.index()]);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner
            .read()
            .expect("nobody panics while holding the cache")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner
            .write()
            .expect("nobody panics while holding the cache")
    }
}

fn forget(tables: &mut Tables, dialect: Dialect, unit: &Unit) {
    for (kind, names) in unit.names(dialect) {
        drop_names(&mut tables.shared[kind.index()], &names);
        match kind {
            TypeUrl::Route => drop_names(&mut tables.consumers, &names),
            TypeUrl::Endpoints => drop_names(&mut tables.near, &names),
            _ => {}
        }
    }
}

fn drop_names<V>(table: &mut BTreeMap<Arc<str>, V>, names: &Names) {
    match names {
        Names::One(name) => {
            table.remove(name.as_str());
        }
        Names::Prefix(prefix) => {
            let gone: Vec<Arc<str>> = with_prefix(table, prefix)
                .map(|(name, _)| name.clone())
                .collect();
            gone.iter().for_each(|name| drop(table.remove(name)));
        }
    }
}

/// The entries whose names begin with `prefix`.
pub(crate) fn with_prefix<'a, V>(
    table: &'a BTreeMap<Arc<str>, V>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a V)> {
    let range = table.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
    range.take_while(move |(name, _)| name.starts_with(prefix))
}

#[cfg(test)]
mod tests;
