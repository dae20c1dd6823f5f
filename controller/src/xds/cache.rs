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
use super::scope::Dialect;
use super::translate::{Translated, envoy, grpc, native};
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
/// One table a type of resource.
type Tables = [Table; TypeUrl::ALL.len()];

/// Every resource that was asked for and exists, by dialect.
#[derive(Debug)]
pub(crate) struct Cache {
    inner: RwLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    published: Arc<Published>,
    dialects: [Tables; Dialect::ALL.len()],
}

impl Cache {
    /// A cache with nothing in it yet.
    pub(crate) fn new(state: &State) -> Self {
        let published = Arc::new(Published::first(state));
        Self {
            inner: RwLock::new(Inner {
                published,
                dialects: Default::default(),
            }),
        }
    }

    /// The state that is served now.
    pub(crate) fn published(&self) -> Arc<Published> {
        self.read().published.clone()
    }

    /// Takes a new state and forgets what it may have touched; `None` where the mesh is the same.
    pub(crate) fn publish(&self, state: &State) -> Option<Arc<Published>> {
        let older = self.published();
        let mesh = state.mesh().clone();
        if version(&mesh) == older.version {
            return None;
        }
        let touched = Arc::new(touched(&older.mesh, &mesh));
        let sequence = older.sequence + 1;
        let mut recent = older.recent.clone();
        recent.push_back((sequence, touched.clone()));
        if recent.len() > RECENT {
            recent.pop_front();
        }
        let published = Arc::new(Published {
            sequence,
            version: version(&mesh),
            mesh,
            recent,
        });
        let mut inner = self.write();
        match &*touched {
            Touched::Units(units) => {
                for dialect in Dialect::ALL {
                    let tables = &mut inner.dialects[dialect.index()];
                    units.iter().for_each(|unit| forget(tables, dialect, unit));
                }
            }
            // Another level, among others: it decides how resources are made.
            Touched::All => inner.dialects = Default::default(),
        }
        inner.published = published.clone();
        Some(published)
    }

    /// The resource of this name; `None` where there is none.
    pub(crate) fn get(
        &self,
        dialect: Dialect,
        published: &Published,
        kind: TypeUrl,
        name: &Arc<str>,
    ) -> Option<Translated> {
        let known = self.read().dialects[dialect.index()][kind.index()]
            .get(name)
            .cloned();
        if known.is_some() {
            return known;
        }
        let made = match dialect {
            Dialect::Native => native::translate(&published.mesh, kind, name)?,
            Dialect::Envoy => envoy::translate(&published.mesh, kind, name)?,
            Dialect::Grpc => grpc::translate(&published.mesh, kind, name)?,
        };
        let mut inner = self.write();
        // What was made from a state that is no longer served may be outdated already: use it, but do not keep it.
        if inner.published.sequence == published.sequence {
            let table = &mut inner.dialects[dialect.index()][kind.index()];
            table.insert(made.resource.name().clone(), made.clone());
        }
        Some(made)
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
        let table = &mut tables[kind.index()];
        match names {
            Names::One(name) => {
                table.remove(name.as_str());
            }
            Names::Prefix(prefix) => {
                let gone: Vec<Arc<str>> = with_prefix(table, &prefix)
                    .map(|(name, _)| name.clone())
                    .collect();
                gone.iter().for_each(|name| drop(table.remove(name)));
            }
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
