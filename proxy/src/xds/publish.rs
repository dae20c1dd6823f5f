//! Brings a snapshot up to date with what is held. A listener is in it only when all that it reaches is.
//!
//! Only what a change concerns is looked at: with two thousand names a look at all of them at each response would take the
//! proxy's whole time.

use super::state::Held;
use super::translate::Value;
use crate::snapshot::{Backends, Listener, RouteAction, Routes, Snapshot};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use xds_api::mesh_version::MeshVersion;
use xds_api::type_url::TypeUrl;

/// A resource's type and name. What is said of a cluster holds for its endpoints too.
pub(super) type Key = (TypeUrl, Arc<str>);

/// What a snapshot is made of.
pub(super) struct Source<'a> {
    pub(super) held: &'a Held,
    /// Clusters and routes that came and could not be used: what reaches them is not complete.
    pub(super) refused: &'a HashSet<Key>,
    pub(super) version: MeshVersion,
}

/// Who uses what: listeners use routes and clusters, routes use clusters. Both ways, to find whom a change concerns.
#[derive(Debug, Default)]
pub(super) struct Users {
    used: HashMap<Key, Vec<Key>>,
    users: HashMap<Key, HashSet<Key>>,
}

impl Users {
    fn set(&mut self, user: &Key, used: Vec<Key>) {
        for before in self.used.remove(user).unwrap_or_default() {
            let Some(users) = self.users.get_mut(&before) else {
                continue;
            };
            users.remove(user);
            if users.is_empty() {
                self.users.remove(&before);
            }
        }
        for one in &used {
            let users = self.users.entry(one.clone()).or_default();
            users.insert(user.clone());
        }
        if !used.is_empty() {
            self.used.insert(user.clone(), used);
        }
    }

    /// How many resources are used.
    pub(super) fn count(&self) -> usize {
        self.users.len()
    }

    /// The listeners among these, and those that reach any of them.
    fn listeners(&self, changed: &[Key]) -> HashSet<Arc<str>> {
        let mut found = HashSet::new();
        let mut open: Vec<Key> = changed.to_vec();
        while let Some((kind, name)) = open.pop() {
            if kind == TypeUrl::Listener {
                found.insert(name);
                continue;
            }
            let kind = match kind {
                TypeUrl::Endpoints => TypeUrl::Cluster,
                other => other,
            };
            open.extend(self.users.get(&(kind, name)).into_iter().flatten().cloned());
        }
        found
    }
}

impl Source<'_> {
    /// The snapshot after `changed` came, went or was refused.
    pub(super) fn snapshot(
        &self,
        previous: &Snapshot,
        changed: &[Key],
        users: &mut Users,
    ) -> Snapshot {
        let mut next = Snapshot {
            incarnation: self.version.incarnation,
            index: self.version.index,
            ..previous.clone()
        };
        for key in changed {
            self.update(&mut next, key);
            if let Some(Value::Routes(routes)) = self.value(key) {
                users.set(key, clusters_of(routes).map(cluster).collect());
            } else if key.0 == TypeUrl::Route {
                users.set(key, Vec::new());
            }
        }
        for name in users.listeners(changed) {
            self.listener(&mut next, name, users);
        }
        next
    }

    fn value(&self, (kind, name): &Key) -> Option<&Value> {
        self.held.of(*kind).get(name).map(|one| &one.value)
    }

    fn update(&self, next: &mut Snapshot, key: &Key) {
        let name = &key.1;
        match (self.value(key), key.0) {
            (Some(Value::Inbound(value)), _) => next.inbound = Some(Arc::clone(value)),
            (Some(Value::Host(value)), _) => {
                drop(next.hosts.insert(Arc::clone(name), Arc::clone(value)));
            }
            (Some(Value::Routes(value)), _) => {
                drop(next.routes.insert(Arc::clone(name), Arc::clone(value)));
            }
            (Some(Value::Cluster(value)), _) => {
                drop(next.clusters.insert(Arc::clone(name), Arc::clone(value)));
            }
            (Some(Value::Endpoints(value)), _) => {
                drop(next.endpoints.insert(Arc::clone(name), Arc::clone(value)));
            }
            (Some(Value::Roots(value)), _) => {
                let domain = Arc::clone(&value.trust_domain);
                drop(next.roots.insert(domain, Arc::clone(value)));
            }
            (None, TypeUrl::Listener) => drop(next.hosts.remove(name)),
            (None, TypeUrl::Route) => drop(next.routes.remove(name)),
            (None, TypeUrl::Cluster) => drop(next.clusters.remove(name)),
            (None, TypeUrl::Endpoints) => drop(next.endpoints.remove(name)),
            // Listeners follow once everything else is in its place; roots are never let go, and of extensions there are none.
            (Some(Value::Listener(_)), _) | (None, TypeUrl::Secret | TypeUrl::Extension) => {}
        }
    }

    /// A listener whose new form is not complete yet keeps the form that it had.
    fn listener(&self, next: &mut Snapshot, name: Arc<str>, users: &mut Users) {
        let key = (TypeUrl::Listener, name);
        let Some(Value::Listener(held)) = self.value(&key) else {
            next.listeners.remove(&key.1);
            return users.set(&key, Vec::new());
        };
        let old = next.listeners.remove(&key.1);
        let mut used: Vec<Key> = used_by(held).collect();
        let mut candidates = std::iter::once(Arc::clone(held)).chain(old);
        if let Some(usable) = candidates.find(|one| self.complete(one, next)) {
            if !Arc::ptr_eq(&usable, held) {
                used.extend(used_by(&usable));
            }
            next.listeners.insert(Arc::clone(&key.1), usable);
        }
        users.set(&key, used);
    }

    fn complete(&self, listener: &Listener, next: &Snapshot) -> bool {
        let routed = match &listener.routes {
            None => true,
            Some(name) => next.routes.get(name).is_some_and(|routes| {
                clusters_of(routes).all(|cluster| self.reachable(cluster, next))
            }),
        };
        let mut opaque = listener.opaque.iter().flat_map(|all| names(all));
        routed && opaque.all(|cluster| self.reachable(cluster, next))
    }

    /// A cluster that nobody sent does not exist, which the data path answers by itself: whatever exists comes before the
    /// listeners and routes that name it.
    fn reachable(&self, cluster: &Arc<str>, next: &Snapshot) -> bool {
        let refused = |kind| self.refused.contains(&(kind, Arc::clone(cluster)));
        match next.clusters.contains_key(cluster) {
            true => next.endpoints.contains_key(cluster),
            false => !refused(TypeUrl::Cluster),
        }
    }
}

fn clusters_of(routes: &Routes) -> impl Iterator<Item = &Arc<str>> {
    let forwards = routes
        .routes
        .iter()
        .filter_map(|route| match &route.action {
            RouteAction::Forward(forward) => Some(forward),
            RouteAction::Redirect(_) | RouteAction::Respond(_) => None,
        });
    forwards.flat_map(|forward| names(&forward.backends))
}

fn names(backends: &Backends) -> impl Iterator<Item = &Arc<str>> {
    backends.backends.iter().map(|backend| &backend.cluster)
}

fn cluster(name: &Arc<str>) -> Key {
    (TypeUrl::Cluster, Arc::clone(name))
}

fn used_by(listener: &Listener) -> impl Iterator<Item = Key> {
    let routes = listener.routes.iter().cloned();
    let clusters = listener
        .opaque
        .iter()
        .flat_map(|all| names(all))
        .map(cluster);
    routes.map(|name| (TypeUrl::Route, name)).chain(clusters)
}
