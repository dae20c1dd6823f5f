//! One request towards the application: judged, cleaned, sent, its answer cleaned.

use super::Inbound;
use super::port::PortView;
use crate::http::{
    Asked, Body, FORWARDED_CLIENT, Failure, Handler, Watch, clean_response, forget_hops,
};
use crate::metrics::Direction;
use crate::policy::{PeerIdentity, RequestFacts, normal};
use crate::snapshot::Protocol;
use h2::Reason;
use http::{HeaderValue, Request, Response, Version};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// What one connection knows of whoever called: the same for all its requests.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) inbound: Arc<Inbound>,
    /// Where it reached this host.
    pub(super) local: IpAddr,
    pub(super) peer: Option<PeerIdentity>,
    /// What the application is told of a verified peer.
    forwarded: Option<HeaderValue>,
    /// Views of the ports that it has called. A peer's few, so they are searched in order.
    views: Mutex<Vec<Arc<PortView>>>,
}

/// Ports that one connection remembers; a peer that calls more pays for it.
const VIEWS: usize = 16;

impl Caller {
    pub(super) fn new(
        inbound: Arc<Inbound>,
        local: IpAddr,
        peer: Option<PeerIdentity>,
    ) -> Arc<Self> {
        let own = inbound
            .shared
            .mesh
            .borrow()
            .as_ref()
            .map(|mesh| mesh.identity().id.clone());
        let forwarded = peer.as_ref().and_then(|peer| {
            let by = own.map_or_else(String::new, |own| format!("By={own};"));
            HeaderValue::try_from(format!("{by}URI={}", peer.id)).ok()
        });
        Arc::new(Self {
            inbound,
            local,
            peer,
            forwarded,
            views: Mutex::default(),
        })
    }

    /// What holds for a port now.
    pub(super) fn view(&self, port: u16) -> Option<Arc<PortView>> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let place = views.iter().position(|view| view.port == port);
        if let Some(place) = place {
            if self.inbound.current(&views[place]) {
                return Some(views[place].clone());
            }
            views.swap_remove(place);
        }
        let view = self.inbound.view(port, self.local, self.peer.as_ref())?;
        if views.len() >= VIEWS {
            views.clear();
        }
        views.push(view.clone());
        Some(view)
    }

    /// Answers one request to a port.
    pub(super) async fn answer(&self, port: u16, request: Request<Body>) -> Response<Body> {
        self.serve(port, request).await.0
    }

    /// The same for a peer: where the application broke off, its sidecar is told by a reset, as it is the one that retries.
    pub(super) async fn answer_peer(
        &self,
        port: u16,
        request: Request<Body>,
    ) -> Result<Response<Body>, Reason> {
        let (response, failure) = self.serve(port, request).await;
        match failure.and_then(Failure::reason) {
            None => Ok(response),
            // Dropped, the response is counted like any other.
            Some(reason) => Err(reason),
        }
    }

    /// The answer, and why it is the proxy's own where it is.
    async fn serve(&self, port: u16, request: Request<Body>) -> (Response<Body>, Option<Failure>) {
        let started = Instant::now();
        let asked = Asked::of(&request);
        let Some(view) = self.view(port) else {
            // Nobody has looked at it: a peer's sidecar asks another endpoint.
            return (Failure::Refused.response(asked), Some(Failure::Refused));
        };
        let (response, failure) = match self.forward(&view, request).await {
            Ok(response) => (response, None),
            Err(failure) => {
                let metrics = &self.inbound.shared.metrics;
                metrics.error(Direction::Inbound, &view.service, failure.name());
                (failure.response(asked), Some(failure))
            }
        };
        let watch = Watch::new(view.requests.clone(), &response, asked.grpc, started);
        (response.map(|body| body.watched(watch)), failure)
    }

    async fn forward(
        &self,
        view: &PortView,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let facts = RequestFacts {
            method: request.method().as_str(),
            path: &normal(request.uri().path()),
        };
        if !view.allows(Some(facts)) {
            return Err(Failure::Denied);
        }
        let application = view.application.as_ref().ok_or(Failure::Connect)?;
        let headers = request.headers_mut();
        forget_hops(headers);
        headers.remove(FORWARDED_CLIENT);
        if let Some(forwarded) = &self.forwarded {
            headers.insert(FORWARDED_CLIENT, forwarded.clone());
        }
        match view.policy.protocol {
            Protocol::Http1 if request.version() == Version::HTTP_2 => {
                *request.version_mut() = Version::HTTP_11
            }
            Protocol::Http2 | Protocol::Grpc => *request.version_mut() = Version::HTTP_2,
            _ => {}
        }
        // How much waits for an application is bounded where it comes from.
        let answered = application.exchange(request, || Ok(())).await;
        let mut response = answered.map_err(|unserved| unserved.failure())?;
        clean_response(&mut response);
        Ok(response)
    }
}

/// A connection whose requests all go to one port.
#[derive(Debug, Clone)]
pub(super) struct ToPort {
    pub(super) caller: Arc<Caller>,
    pub(super) port: u16,
}

impl Handler for ToPort {
    /// Who has no sidecar gets an answer in any case.
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, Reason> {
        match self.caller.peer {
            Some(_) => self.caller.answer_peer(self.port, request).await,
            None => Ok(self.caller.answer(self.port, request).await),
        }
    }
}
