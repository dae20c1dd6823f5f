//! A destination as the snapshot has it, bound to balancers and counters, so that a request looks nothing up.

use super::target::Target;
use crate::balance::Balancer;
use crate::metrics::{ClusterLoad, Direction, RequestLabels, RequestMetrics};
use crate::shared::Shared;
use crate::snapshot::{
    Backends, Endpoint, Listener, Locality, Route, RouteAction, Routes, Snapshot,
};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// Destinations and clusters kept. The control plane's side holds no more names than this.
const KEPT: usize = 2_048;

/// A cluster's balancer, with the way to each endpoint.
pub(super) type Cluster = Balancer<Target>;

/// One destination, bound under one snapshot.
#[derive(Debug)]
pub(super) struct Binding {
    snapshot: Arc<Snapshot>,
    pub(super) bound: Arc<Bound>,
}

/// What of it stays the same while listener and routes do.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: Arc<Listener>,
    pub(super) service: Arc<str>,
    pub(super) routes: Option<BoundRoutes>,
    /// Where what is not HTTP goes. Empty: nowhere.
    pub(super) opaque: Vec<BoundBackend>,
    /// Requests that no route takes.
    pub(super) unrouted: Arc<RequestMetrics>,
    /// Whether the server spoke first the last time, so that the next client is not waited for.
    pub(super) server_first: AtomicBool,
}

/// Routes, and the backends of each.
#[derive(Debug)]
pub(super) struct BoundRoutes {
    pub(super) routes: Arc<Routes>,
    backends: Vec<Vec<BoundBackend>>,
}

/// One backend of a route.
#[derive(Debug)]
pub(super) struct BoundBackend {
    /// The sum of the weights up to and with this one.
    until: u64,
    pub(super) cluster: Option<Arc<Cluster>>,
    name: Arc<str>,
    pub(super) requests: Arc<RequestMetrics>,
    pub(super) load: Arc<ClusterLoad>,
}

impl BoundRoutes {
    /// A route and the place of the backend that gets this request.
    pub(super) fn backend(&self, route: usize) -> Option<(usize, &BoundBackend)> {
        choose(&self.backends[route])
    }
}

/// Draws by weight.
pub(super) fn choose(backends: &[BoundBackend]) -> Option<(usize, &BoundBackend)> {
    let total = backends.last()?.until;
    if let [only] = backends {
        return (total > 0).then_some((0, only));
    }
    let draw = if total > 0 {
        rand::random_range(0..total)
    } else {
        return None;
    };
    backends
        .iter()
        .enumerate()
        .find(|(_, backend)| draw < backend.until)
}

/// All destinations in use, and the balancers that outlive each of them.
#[derive(Debug)]
pub(super) struct Bindings {
    shared: Shared,
    here: Locality,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    bindings: HashMap<Arc<str>, Arc<Binding>>,
    clusters: HashMap<Arc<str>, Arc<Cluster>>,
}

impl Bindings {
    pub(super) fn new(shared: Shared, here: Locality) -> Self {
        Self {
            shared,
            here,
            known: Mutex::default(),
        }
    }

    /// `last` if nothing has changed since, else the destination as it is now. None: it is gone.
    pub(super) fn current(
        &self,
        name: &Arc<str>,
        last: Option<&Arc<Binding>>,
    ) -> Option<Arc<Binding>> {
        let same = |last: &&Arc<Binding>| {
            self.shared
                .snapshot(|snapshot| Arc::ptr_eq(snapshot, &last.snapshot))
        };
        if let Some(last) = last.filter(same) {
            return Some(last.clone());
        }
        self.bind(name)
    }

    fn bind(&self, name: &Arc<str>) -> Option<Arc<Binding>> {
        let snapshot = self.shared.snapshot(Arc::clone);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(binding) = known
            .bindings
            .get(name)
            .filter(|binding| Arc::ptr_eq(&binding.snapshot, &snapshot))
        {
            return Some(binding.clone());
        }
        let Some(listener) = snapshot.listeners.get(name) else {
            known.bindings.remove(name);
            return None;
        };
        let routes = listener
            .routes
            .as_ref()
            .and_then(|name| snapshot.routes.get(name));
        let reuse = known
            .bindings
            .get(name)
            .map(|binding| binding.bound.clone());
        let reuse =
            reuse.filter(|bound| bound.same(listener, routes) && self.refresh(bound, &snapshot));
        let bound = match reuse {
            Some(bound) => bound,
            None => Arc::new(self.make(&mut known, listener, routes, &snapshot)),
        };
        known.make_room(&snapshot);
        let binding = Arc::new(Binding { snapshot, bound });
        known.bindings.insert(name.clone(), binding.clone());
        Some(binding)
    }

    /// Brings the balancers up to date. False: a cluster came or went, so the backends have to be bound anew.
    fn refresh(&self, bound: &Bound, snapshot: &Snapshot) -> bool {
        let routed = bound
            .routes
            .iter()
            .flat_map(|routes| routes.backends.iter().flatten());
        bound.opaque.iter().chain(routed).all(|backend| {
            let now = snapshot
                .clusters
                .get(&backend.name)
                .zip(snapshot.endpoints.get(&backend.name));
            match (&backend.cluster, now) {
                (Some(balancer), Some((cluster, endpoints))) => {
                    balancer.refresh(cluster, endpoints, |endpoint| {
                        let load = backend.load.locality(&endpoint.locality);
                        Target::new(endpoint, cluster.connect_timeout, &self.shared, load)
                    });
                    true
                }
                (None, None) => true,
                _ => false,
            }
        })
    }

    fn make(
        &self,
        known: &mut Known,
        listener: &Arc<Listener>,
        routes: Option<&Arc<Routes>>,
        snapshot: &Snapshot,
    ) -> Bound {
        let service: Arc<str> = format!(
            "{}/{}:{}",
            listener.namespace, listener.service, listener.port
        )
        .into();
        let mut backends = |route: &str, backends: &Backends| {
            let bind = |until: &mut u64, backend: &crate::snapshot::Backend| {
                *until += u64::from(backend.weight);
                let until = *until;
                let cluster = self.cluster(known, &backend.cluster, snapshot);
                let requests = self.requests(&service, route, &backend.cluster);
                let name = backend.cluster.clone();
                let load = self.shared.metrics.loads().cluster(&name);
                Some(BoundBackend {
                    until,
                    cluster,
                    name,
                    requests,
                    load,
                })
            };
            backends.backends.iter().scan(0, bind).collect::<Vec<_>>()
        };
        let opaque = listener
            .opaque
            .as_ref()
            .map(|opaque| backends("", opaque))
            .unwrap_or_default();
        let of_route = |route: &Route| match &route.action {
            RouteAction::Forward(forward) => backends(&route.name, &forward.backends),
            // The proxy answers by itself; its answers are counted under no backend.
            RouteAction::Redirect(_) | RouteAction::Respond(_) => Vec::new(),
        };
        let routes = routes.map(|routes| BoundRoutes {
            routes: routes.clone(),
            backends: routes.routes.iter().map(of_route).collect(),
        });
        Bound {
            listener: listener.clone(),
            unrouted: self.requests(&service, "", ""),
            service,
            routes,
            opaque,
            server_first: AtomicBool::new(false),
        }
    }

    fn requests(&self, service: &str, route: &str, backend: &str) -> Arc<RequestMetrics> {
        self.shared.metrics.requests(RequestLabels {
            direction: Direction::Outbound,
            service: service.to_owned(),
            route: route.to_owned(),
            backend: backend.to_owned(),
            peer: String::new(),
        })
    }

    /// The balancer of a cluster, one for all who use it.
    fn cluster(
        &self,
        known: &mut Known,
        name: &Arc<str>,
        snapshot: &Snapshot,
    ) -> Option<Arc<Cluster>> {
        let cluster = snapshot.clusters.get(name)?;
        let endpoints = snapshot.endpoints.get(name)?;
        let load = self.shared.metrics.loads().cluster(name);
        let make = |endpoint: &Endpoint| {
            let load = load.locality(&endpoint.locality);
            Target::new(endpoint, cluster.connect_timeout, &self.shared, load)
        };
        if let Some(balancer) = known.clusters.get(name) {
            balancer.refresh(cluster, endpoints, make);
            return Some(balancer.clone());
        }
        let ejections = self.shared.metrics.ejections(name);
        let balancer = Balancer::new(
            cluster.clone(),
            endpoints.clone(),
            self.here.clone(),
            ejections,
            make,
        );
        let balancer = Arc::new(balancer);
        known.clusters.insert(name.clone(), balancer.clone());
        Some(balancer)
    }
}

impl Bound {
    fn same(&self, listener: &Arc<Listener>, routes: Option<&Arc<Routes>>) -> bool {
        let own = self.routes.as_ref().map(|bound| &bound.routes);
        Arc::ptr_eq(&self.listener, listener)
            && match (own, routes) {
                (Some(own), Some(routes)) => Arc::ptr_eq(own, routes),
                (None, None) => true,
                _ => false,
            }
    }
}

impl Known {
    /// Forgets what the snapshot no longer has, once there is a lot.
    fn make_room(&mut self, snapshot: &Snapshot) {
        if self.bindings.len() >= KEPT {
            self.bindings
                .retain(|name, _| snapshot.listeners.contains_key(name));
        }
        if self.clusters.len() >= KEPT {
            self.clusters
                .retain(|name, _| snapshot.clusters.contains_key(name));
        }
    }
}
