//! Makes a snapshot of what is held. A listener is in it only when all that it reaches is.

use super::state::Held;
use super::translate::Value;
use crate::snapshot::{Listener, Named, RouteAction, Routes, Snapshot};
use std::collections::HashSet;
use std::sync::Arc;
use xds_api::mesh_version::MeshVersion;
use xds_api::type_url::TypeUrl;

/// What a snapshot is made of.
pub(super) struct Source<'a> {
    pub(super) held: &'a Held,
    /// Clusters and routes that came and could not be used: what reaches them is not complete.
    pub(super) refused: &'a HashSet<(TypeUrl, Arc<str>)>,
    pub(super) version: MeshVersion,
}

impl Source<'_> {
    /// The next snapshot. A listener whose new form is not complete yet keeps the form that it had.
    pub(super) fn snapshot(&self, previous: &Snapshot) -> Snapshot {
        let mut next = Snapshot {
            incarnation: self.version.incarnation,
            index: self.version.index,
            ..Snapshot::default()
        };
        let mut listeners = Vec::new();
        for (name, one) in self.held.iter() {
            let name = Arc::clone(name);
            match &one.value {
                Value::Inbound(value) => next.inbound = Some(Arc::clone(value)),
                Value::Host(value) => put(&mut next.hosts, name, value),
                Value::Listener(value) => listeners.push(value),
                Value::Routes(value) => put(&mut next.routes, name, value),
                Value::Cluster(value) => put(&mut next.clusters, name, value),
                Value::Endpoints(value) => put(&mut next.endpoints, name, value),
                Value::Roots(value) => {
                    put(&mut next.roots, Arc::clone(&value.trust_domain), value);
                }
            }
        }
        for listener in listeners {
            let old = previous.listeners.get(&listener.name);
            let mut candidates = std::iter::once(listener).chain(old);
            if let Some(usable) = candidates.find(|one| self.complete(one, &next)) {
                put(&mut next.listeners, Arc::clone(&listener.name), usable);
            }
        }
        next
    }

    fn complete(&self, listener: &Listener, next: &Snapshot) -> bool {
        let routed = match &listener.routes {
            None => true,
            Some(name) => next.routes.get(name).is_some_and(|routes| {
                clusters_of(routes).all(|cluster| self.reachable(cluster, next))
            }),
        };
        let opaque = listener.opaque.iter().flat_map(|opaque| &opaque.backends);
        routed
            && opaque
                .map(|one| &one.cluster)
                .all(|cluster| self.reachable(cluster, next))
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
    let backends = forwards.flat_map(|forward| &forward.backends.backends);
    backends.map(|backend| &backend.cluster)
}

fn put<T>(map: &mut Named<T>, name: Arc<str>, value: &Arc<T>) {
    map.insert(name, Arc::clone(value));
}
