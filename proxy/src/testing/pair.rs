//! Two proxies on the loopback, with snapshots made by hand: a client's and a service's, and the service's application.

use super::Authority;
use crate::drain::{self, Drain};
use crate::metrics::Metrics;
use crate::net;
use crate::shared::Shared;
use crate::snapshot::{
    Backends, Balancing, Cluster, Directory, Endpoint, Endpoints, Forward, HeaderChanges, Health,
    Inbound, InboundPort, Limits, Listener, Locality, MeshAddress, MeshForm, Mtls, Named, Protocol,
    Resolution, ResolveFuture, Route, RouteAction, RouteMatch, Routes, Snapshot, Upstream,
};
use crate::supervise::{self, Tasks};
use crate::{inbound, outbound};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub(crate) const SERVICE: &str = "demo/api:80";
pub(crate) const OUT: &str = "out/api.demo:80";
pub(crate) const CLIENT: &str = "spiffe://mesh.test/ns/demo/sa/web";
pub(crate) const SERVER: &str = "spiffe://mesh.test/ns/demo/sa/api";

/// A directory whose snapshot the test publishes.
#[derive(Debug)]
pub(crate) struct Told {
    receiver: watch::Receiver<Arc<Snapshot>>,
}

impl Directory for Told {
    fn snapshots(&self) -> &watch::Receiver<Arc<Snapshot>> {
        &self.receiver
    }

    fn resolve<'a>(&'a self, name: &'a str, _: Instant) -> ResolveFuture<'a> {
        let found = self.current().listeners.get(name).cloned();
        Box::pin(async move { found.map_or(Resolution::Missing, Resolution::Found) })
    }
}

/// One proxy's surroundings.
pub(crate) struct Proxy {
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
    pub(crate) drain: Drain,
    pub(crate) shared: Shared,
}

impl Proxy {
    pub(crate) fn new(authority: &Authority, account: &str, snapshot: Snapshot) -> Self {
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
        let (_, mesh) = watch::channel(Some(Arc::new(authority.mesh("demo", account))));
        let (tasks, _) = supervise::tasks();
        let (drain, work) = drain::channel();
        let metrics = Metrics::new();
        let shared = Shared {
            directory: Arc::new(Told { receiver }),
            mesh,
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            work,
        };
        Self {
            snapshots,
            metrics,
            tasks,
            drain,
            shared,
        }
    }

    /// Publishes a changed snapshot.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.snapshots.borrow());
        change(&mut snapshot);
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    /// The sum of all series of a metric whose line holds all of `parts`.
    pub(crate) fn count(&self, metric: &str, parts: &[&str]) -> f64 {
        let text = self.metrics.encode().unwrap();
        let wanted =
            |line: &&str| line.starts_with(metric) && parts.iter().all(|part| line.contains(part));
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        text.lines().filter(wanted).map(value).sum()
    }
}

/// A client's proxy, a service's proxy, and where to call.
pub(crate) struct Pair {
    pub(crate) client: Proxy,
    pub(crate) server: Proxy,
    /// The client's explicit listener.
    pub(crate) listen: SocketAddr,
    /// The service's mesh port.
    pub(crate) mesh: SocketAddr,
    pub(crate) inbound: Arc<inbound::Inbound>,
}

/// A free address on the loopback.
pub(crate) fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

pub(crate) fn listener() -> TcpListener {
    net::listen("127.0.0.1:0".parse().unwrap(), false).unwrap()
}

impl Pair {
    /// `application` serves the service; both sides understand its port as `protocol`.
    pub(crate) async fn new(application: SocketAddr, protocol: Protocol) -> Self {
        let authority = Authority::new();
        let mesh = listener();
        let address = mesh.local_addr().unwrap();
        let listen = free();
        let server = Proxy::new(&authority, "api", served(protocol));
        let settings = inbound::Settings {
            applications: HashMap::from([(application.port(), None)]),
            own: vec![address],
            several: false,
        };
        let inbound = inbound::Inbound::new(server.shared.clone(), settings);
        server.tasks.spawn(inbound.clone().run(mesh));
        let endpoint = endpoint(application, Some(address.port()));
        let client = Proxy::new(&authority, "web", called(listen, protocol, vec![endpoint]));
        let outbound =
            outbound::Outbound::new(client.shared.clone(), outbound::Settings::default());
        let (sender, ready) = oneshot::channel();
        client.tasks.spawn(outbound.follow_upstreams(false, sender));
        ready.await.unwrap();
        Self {
            client,
            server,
            listen,
            mesh: address,
            inbound,
        }
    }

    /// Replaces the client's routes.
    pub(crate) fn route(&self, routes: Vec<Route>) {
        self.client.change(|snapshot| {
            let routes = Routes {
                name: SERVICE.into(),
                routes,
            };
            snapshot.routes.insert(SERVICE.into(), Arc::new(routes));
        });
    }

    /// Changes the client's cluster.
    pub(crate) fn cluster(&self, change: impl FnOnce(&mut Cluster)) {
        self.client.change(|snapshot| {
            let mut cluster = Cluster::clone(&snapshot.clusters[SERVICE]);
            change(&mut cluster);
            snapshot.clusters.insert(SERVICE.into(), Arc::new(cluster));
        });
    }

    /// Replaces the client's endpoints.
    pub(crate) fn endpoints(&self, endpoints: Vec<Endpoint>) {
        self.client.change(|snapshot| {
            let endpoints = Endpoints {
                name: SERVICE.into(),
                endpoints,
            };
            snapshot
                .endpoints
                .insert(SERVICE.into(), Arc::new(endpoints));
        });
    }

    /// Changes what holds for every port of the service.
    pub(crate) fn policy(&self, change: impl FnOnce(&mut InboundPort)) {
        self.server.change(|snapshot| {
            let mut inbound = Inbound::clone(snapshot.inbound.as_ref().unwrap());
            let mut port = InboundPort::clone(&inbound.default);
            change(&mut port);
            inbound.default = Arc::new(port);
            snapshot.inbound = Some(Arc::new(inbound));
        });
    }
}

pub(crate) fn endpoint(address: SocketAddr, mesh_port: Option<u16>) -> Endpoint {
    Endpoint {
        address,
        namespace: "demo".into(),
        workload: "api".into(),
        locality: Locality::default(),
        health: Health::Healthy,
        weight: 1,
        mesh: mesh_port.map(|port| MeshAddress {
            port,
            form: MeshForm::Native,
            identity: SERVER.into(),
        }),
    }
}

/// A route for everything.
pub(crate) fn route(action: RouteAction) -> Route {
    Route {
        name: "".into(),
        matches: RouteMatch::prefix("/"),
        action,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
    }
}

pub(crate) fn forward() -> Forward {
    Forward {
        backends: Arc::new(Backends::single(SERVICE)),
        timeout: None,
        rewrite: None,
        host: None,
        retry: None,
    }
}

/// What the service's proxy is told.
pub(crate) fn served(protocol: Protocol) -> Snapshot {
    let port = InboundPort {
        protocol,
        mtls: Mtls::Strict,
        rules: Vec::new(),
        default_deny: false,
    };
    let inbound = Inbound {
        namespace: "demo".into(),
        workload: "api".into(),
        identity: SERVER.into(),
        ports: HashMap::new(),
        default: Arc::new(port),
        upstreams: Vec::new(),
    };
    Snapshot {
        inbound: Some(Arc::new(inbound)),
        ..Snapshot::default()
    }
}

/// What the client's proxy is told.
pub(crate) fn called(listen: SocketAddr, protocol: Protocol, endpoints: Vec<Endpoint>) -> Snapshot {
    let inbound = Inbound {
        namespace: "demo".into(),
        workload: "web".into(),
        identity: CLIENT.into(),
        ports: HashMap::new(),
        default: served(Protocol::Detect).inbound.unwrap().default.clone(),
        upstreams: vec![Upstream {
            listen,
            target: OUT.into(),
        }],
    };
    let http = !matches!(protocol, Protocol::Tcp | Protocol::Tls);
    let always_http = matches!(protocol, Protocol::Http1 | Protocol::Http2 | Protocol::Grpc);
    let listener = Listener {
        name: OUT.into(),
        namespace: "demo".into(),
        service: "api".into(),
        port: 80,
        protocol,
        routes: http.then(|| SERVICE.into()),
        opaque: (!always_http).then(|| Arc::new(Backends::single(SERVICE))),
    };
    let cluster = Cluster {
        name: SERVICE.into(),
        namespace: "demo".into(),
        service: "api".into(),
        port: 80,
        connect_timeout: Duration::from_secs(5),
        balancing: Balancing::PeakEwma,
        outlier: None,
        limits: Limits::default(),
    };
    let routes = Routes {
        name: SERVICE.into(),
        routes: vec![route(RouteAction::Forward(forward()))],
    };
    let endpoints = Endpoints {
        name: SERVICE.into(),
        endpoints,
    };
    Snapshot {
        inbound: Some(Arc::new(inbound)),
        listeners: Named::from_iter([(OUT.into(), Arc::new(listener))]),
        routes: Named::from_iter([(SERVICE.into(), Arc::new(routes))]),
        clusters: Named::from_iter([(SERVICE.into(), Arc::new(cluster))]),
        endpoints: Named::from_iter([(SERVICE.into(), Arc::new(endpoints))]),
        ..Snapshot::default()
    }
}
