//! One port as one connection sees it: its policy, its application, its counters, looked up once and again when told anew.

use super::Inbound;
use crate::http::Application;
use crate::metrics::{AuthorizationLabels, Direction, Metrics, RequestLabels, RequestMetrics};
use crate::policy::{Denial, PeerIdentity, RequestFacts, Verdict, judge};
use crate::snapshot::{self, InboundPort};
use crate::supervise::Tasks;
use prometheus_client::metrics::counter::Counter;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Applications of one host that are remembered; a host has few, and a scan of all its ports must not stay in memory.
const APPLICATIONS: usize = 256;

/// The applications behind the proxy, and the connections to them.
#[derive(Debug)]
pub(super) struct Applications {
    connect_limit: Duration,
    tasks: Tasks,
    known: Mutex<HashMap<Vec<SocketAddr>, Arc<Application>>>,
}

impl Applications {
    pub(super) fn new(connect_limit: Duration, tasks: Tasks) -> Self {
        Self {
            connect_limit,
            tasks,
            known: Mutex::default(),
        }
    }

    pub(super) fn get(&self, addresses: Vec<SocketAddr>) -> Arc<Application> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(application) = known.get(&addresses) {
            return application.clone();
        }
        if known.len() >= APPLICATIONS {
            known.clear();
        }
        let tasks = self.tasks.clone();
        let application = Application::new(addresses.clone(), self.connect_limit, tasks);
        let application = Arc::new(application);
        known.insert(addresses, application.clone());
        application
    }
}

/// What holds for one port, for one peer, under one inbound resource.
#[derive(Debug)]
pub(super) struct PortView {
    inbound: Arc<snapshot::Inbound>,
    pub(super) port: u16,
    pub(super) policy: Arc<InboundPort>,
    pub(super) application: Option<Arc<Application>>,
    pub(super) requests: Arc<RequestMetrics>,
    pub(super) service: Arc<str>,
    peer: Option<PeerIdentity>,
    metrics: Metrics,
    allowed: Counter,
}

impl Inbound {
    /// The view of a port. None: nothing has been told yet, so nothing is accepted.
    pub(super) fn view(
        &self,
        port: u16,
        local: IpAddr,
        peer: Option<&PeerIdentity>,
    ) -> Option<Arc<PortView>> {
        let inbound = self.shared.snapshot(|snapshot| snapshot.inbound.clone())?;
        let application = self.application(port, local);
        Some(Arc::new(PortView::new(
            self.shared.metrics.clone(),
            inbound,
            port,
            application,
            peer,
        )))
    }

    /// Whether a view still is what the control plane says.
    pub(super) fn current(&self, view: &PortView) -> bool {
        let same = |inbound: &Arc<snapshot::Inbound>| Arc::ptr_eq(inbound, &view.inbound);
        self.shared
            .snapshot(|snapshot| snapshot.inbound.as_ref().is_some_and(same))
    }
}

impl PortView {
    fn new(
        metrics: Metrics,
        inbound: Arc<snapshot::Inbound>,
        port: u16,
        application: Option<Arc<Application>>,
        peer: Option<&PeerIdentity>,
    ) -> Self {
        let service: Arc<str> = format!("{}/{}:{port}", inbound.namespace, inbound.workload).into();
        let peer_name = peer.map_or_else(String::new, |peer| peer.id.to_string());
        let allowed = metrics.authorization(&AuthorizationLabels {
            decision: "allow",
            port,
            policy: String::new(),
            peer: peer_name.clone(),
        });
        let requests = metrics.requests(RequestLabels {
            direction: Direction::Inbound,
            service: service.to_string(),
            route: String::new(),
            backend: String::new(),
            peer: peer_name,
        });
        Self {
            policy: inbound.port(port).clone(),
            inbound,
            port,
            application,
            requests,
            service,
            peer: peer.cloned(),
            metrics,
            allowed,
        }
    }

    /// Judges a request, or the connection as a whole, and counts the decision.
    pub(super) fn allows(&self, request: Option<RequestFacts<'_>>) -> bool {
        match judge(&self.policy, self.peer.as_ref(), request) {
            Verdict::Allow(_) => {
                self.allowed.inc();
                true
            }
            Verdict::Deny(denial) => {
                self.denied(denial);
                false
            }
        }
    }

    /// The same without counting, for connections that are judged again.
    pub(super) fn still_allows(&self) -> bool {
        matches!(
            judge(&self.policy, self.peer.as_ref(), None),
            Verdict::Allow(_)
        )
    }

    fn denied(&self, denial: Denial<'_>) {
        let peer = self.peer.as_ref().map_or("", |peer| &peer.id);
        tracing::debug!(peer, port = self.port, policy = denial.policy(), "refused");
        let labels = AuthorizationLabels {
            decision: "deny",
            port: self.port,
            policy: denial.policy().to_owned(),
            peer: peer.to_owned(),
        };
        self.metrics.authorization(&labels).inc();
    }
}
