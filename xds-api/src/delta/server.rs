//! The server's half: takes requests, and says what may be sent now.

use std::collections::BTreeSet;
use std::sync::Arc;

use thiserror::Error;

use super::interest::{Due, InFlight, Interest, WILDCARD};
use crate::envoy::config::core::v3::Node;
use crate::envoy::service::discovery::v3::{DeltaDiscoveryRequest, ResourceLocator};
use crate::resource::Resource;
use crate::type_url::TypeUrl;

/// Resources are added to a response until it has this many bytes; the rest follows under the next nonce. A bigger
/// response would keep the other types waiting on a slow connection.
const RESPONSE_BYTES: usize = 1 << 20;

/// The most names that one stream may have subscribed to, over all types. The native proxy has at most 2,048
/// listeners; the rest is room for clients that name everything.
const MAX_NAMES: usize = 100_000;

/// The longest name that is remembered; ours have two DNS names and a port.
const MAX_NAME: usize = 1024;

/// The mesh as one client may see it now.
pub trait View {
    /// The resource of this name; `None`: it does not exist, or not for this client.
    fn get(&self, kind: TypeUrl, name: &str) -> Option<Arc<Resource>>;
    /// Whether the client is to have this name though it did not ask for it: because of `*`, where `wildcard` says that
    /// it asked for that, or because something that it did ask for implies it.
    fn covers(&self, kind: TypeUrl, name: &str, wildcard: bool) -> bool;
    /// All names that `*` stands for.
    fn wildcard(&self, kind: TypeUrl) -> Vec<Arc<str>>;
    /// Whether this type may be answered yet.
    fn ready(&self, kind: TypeUrl) -> bool;
}

/// What a client said about a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// ACK.
    Accepted,
    /// NACK: parts of the response may have been taken nevertheless. Nothing is sent again until it changes.
    Rejected(String),
}

/// What a request changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The type that it was about; `None`: one that is not served here, which is not an error and has no answer.
    pub kind: Option<TypeUrl>,
    /// Names newly subscribed to.
    pub subscribed: Vec<Arc<str>>,
    /// Names no longer subscribed to.
    pub unsubscribed: Vec<Arc<str>>,
    /// What was said about the response in flight.
    pub verdict: Option<Verdict>,
}

/// A request that ends the stream with INVALID_ARGUMENT.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// On an aggregated stream nothing implies the type.
    #[error("the request has no type_url: an aggregated stream needs it in every request")]
    NoType,
    /// The first request must say who is asking.
    #[error("the stream's first request has no node")]
    NoNode,
    /// More names than a server can keep.
    #[error("a stream may subscribe to at most {MAX_NAMES} names: unsubscribe from some first")]
    TooManyNames,
    /// A name that is nobody's.
    #[error("a resource name has at most {MAX_NAME} bytes, one of the request has {0}")]
    LongName(usize),
}

/// What goes out: one delta response without its mesh version.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its type.
    pub kind: TypeUrl,
    /// Its nonce, unique within the stream.
    pub nonce: u64,
    /// What was added or has changed; no name twice.
    pub resources: Vec<Arc<Resource>>,
    /// What is no longer there, or was asked for and is not there.
    pub removed: Vec<Arc<str>>,
}

/// One stream's state. State belongs to the stream, never to the node id: a client may have several streams.
#[derive(Debug, Default)]
pub struct Server {
    node: Option<Node>,
    types: [Interest; TypeUrl::ALL.len()],
    last_nonce: u64,
    names: usize,
}

impl Server {
    /// A stream on which nothing was said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who the client said it is, in its first request; what later requests say is ignored.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Whether the client has sent a request of this type.
    pub fn is_open(&self, kind: TypeUrl) -> bool {
        self.interest(kind).opened
    }

    /// The names subscribed to, without `*`.
    pub fn names(&self, kind: TypeUrl) -> &BTreeSet<Arc<str>> {
        &self.interest(kind).named
    }

    /// How many resources the client holds, what is under way included.
    pub fn held(&self) -> usize {
        self.types.iter().map(|one| one.held.len()).sum()
    }

    /// Whether nothing is due and every response was answered.
    pub fn is_idle(&self) -> bool {
        self.types.iter().all(Interest::is_idle)
    }

    /// Takes a request. Call [`Self::next`] afterwards until it has nothing to say.
    pub fn request(&mut self, request: DeltaDiscoveryRequest) -> Result<Request, Refusal> {
        if self.node.is_none() {
            self.node = Some(request.node.ok_or(Refusal::NoNode)?);
        }
        if request.type_url.is_empty() {
            return Err(Refusal::NoType);
        }
        let Some(kind) = TypeUrl::parse(&request.type_url) else {
            return Ok(Request {
                kind: None,
                subscribed: vec![],
                unsubscribed: vec![],
                verdict: None,
            });
        };
        let subscribe = names(
            request.resource_names_subscribe,
            request.resource_locators_subscribe,
        )?;
        let unsubscribe = names(
            request.resource_names_unsubscribe,
            request.resource_locators_unsubscribe,
        )?;
        let held = self.held() + request.initial_resource_versions.len();
        if self.names + subscribe.len() > MAX_NAMES || held > MAX_NAMES {
            return Err(Refusal::TooManyNames);
        }
        let interest = &mut self.types[kind.index()];
        let before = interest.named.len();
        let new = |name: &&Arc<str>| &***name != WILDCARD && !interest.named.contains(*name);
        let subscribed = subscribe.iter().filter(new).cloned().collect();
        let old = |name: &&Arc<str>| interest.named.contains(*name) && !subscribe.contains(*name);
        let unsubscribed = unsubscribe.iter().filter(old).cloned().collect();
        if interest.opened {
            unsubscribe
                .iter()
                .for_each(|name| interest.unsubscribe(name));
            subscribe.iter().for_each(|name| interest.subscribe(name));
        } else {
            interest.open(&subscribe, &request.initial_resource_versions);
        }
        self.names = self.names + interest.named.len() - before;
        let error = request.error_detail.map(|status| status.message);
        let verdict = verdict(interest, &request.response_nonce, error);
        Ok(Request {
            kind: Some(kind),
            subscribed,
            unsubscribed,
            verdict,
        })
    }

    /// Notes that a resource that the client may care for has changed, appeared or gone, or may have.
    pub fn changed(&mut self, kind: TypeUrl, name: &Arc<str>) {
        let interest = &mut self.types[kind.index()];
        if interest.opened {
            interest.mark(name.clone(), Due::Check);
        }
    }

    /// Notes that anything may have changed: everything that the client holds or wants is looked at.
    pub fn changed_all(&mut self) {
        for interest in self.types.iter_mut().filter(|one| one.opened) {
            let concerned: Vec<_> = interest
                .named
                .iter()
                .chain(interest.held.keys())
                .cloned()
                .collect();
            concerned
                .into_iter()
                .for_each(|name| interest.mark(name, Due::Check));
            if interest.wildcard {
                interest.mark_wildcard(Due::Check);
            }
        }
    }

    /// The next response that may go out now; `None`: nothing until a request, a change, or both.
    ///
    /// One response is in flight per type and none waits for another type's answer, but for removals: those go when
    /// nothing that could refer to what is removed is under way any more.
    pub fn next(&mut self, view: &impl View) -> Option<Response> {
        TypeUrl::ALL
            .into_iter()
            .find_map(|kind| self.next_of(kind, view))
    }

    /// An empty response, to show that the stream lives; `None` where the type is closed or has one in flight.
    pub fn beat(&mut self, kind: TypeUrl) -> Option<Response> {
        let interest = self.interest(kind);
        let free = interest.opened && interest.in_flight.is_none();
        free.then(|| self.send(kind, Vec::new(), Vec::new()))
    }

    fn next_of(&mut self, kind: TypeUrl, view: &impl View) -> Option<Response> {
        let interest = self.interest(kind);
        if !interest.opened || interest.in_flight.is_some() || !view.ready(kind) {
            return None;
        }
        let may_remove = self.may_remove(kind);
        let interest = &mut self.types[kind.index()];
        expand(interest, kind, view);
        let mut outcome = Outcome::default();
        while outcome.bytes < RESPONSE_BYTES {
            let Some((name, due)) = interest.due.pop_first() else {
                break;
            };
            settle(interest, kind, view, name, due, may_remove, &mut outcome);
        }
        interest.due.append(&mut outcome.later);
        let greet = std::mem::take(&mut interest.greet);
        for endpoints in outcome.resources.iter().filter_map(|one| one.endpoints()) {
            // Envoy holds back the whole cluster type until the endpoints of each changed cluster come (again).
            self.types[TypeUrl::Endpoints.index()].mark(endpoints.clone(), Due::Send);
        }
        let empty = outcome.resources.is_empty() && outcome.removed.is_empty();
        (greet || !empty).then(|| self.send(kind, outcome.resources, outcome.removed))
    }

    fn send(
        &mut self,
        kind: TypeUrl,
        resources: Vec<Arc<Resource>>,
        removed: Vec<Arc<str>>,
    ) -> Response {
        self.last_nonce += 1;
        let nonce = self.last_nonce;
        self.types[kind.index()].in_flight = Some(InFlight { nonce });
        Response {
            kind,
            nonce,
            resources,
            removed,
        }
    }

    fn may_remove(&self, kind: TypeUrl) -> bool {
        let idle = |kind: TypeUrl| self.interest(kind).is_idle();
        match kind {
            TypeUrl::Listener => true,
            TypeUrl::Route | TypeUrl::Extension => idle(TypeUrl::Listener),
            TypeUrl::Secret => idle(TypeUrl::Listener) && idle(TypeUrl::Cluster),
            TypeUrl::Cluster => idle(TypeUrl::Listener) && idle(TypeUrl::Route),
            TypeUrl::Endpoints => {
                idle(TypeUrl::Listener) && idle(TypeUrl::Route) && idle(TypeUrl::Cluster)
            }
        }
    }

    fn interest(&self, kind: TypeUrl) -> &Interest {
        &self.types[kind.index()]
    }
}

/// What a walk over the due names has found.
#[derive(Default)]
struct Outcome {
    resources: Vec<Arc<Resource>>,
    removed: Vec<Arc<str>>,
    later: std::collections::BTreeMap<Arc<str>, Due>,
    bytes: usize,
}

/// Turns "all that `*` stands for" into names.
fn expand(interest: &mut Interest, kind: TypeUrl, view: &impl View) {
    let Some(due) = interest.due_wildcard.take() else {
        return;
    };
    for name in view.wildcard(kind) {
        interest.mark(name, due);
    }
}

/// Decides about one name.
fn settle(
    interest: &mut Interest,
    kind: TypeUrl,
    view: &impl View,
    name: Arc<str>,
    due: Due,
    may_remove: bool,
    outcome: &mut Outcome,
) {
    let named = interest.named.contains(&name);
    let wanted = named || view.covers(kind, &name, interest.wildcard);
    let resource = if wanted { view.get(kind, &name) } else { None };
    let held = interest.held.get(&name);
    if let Some(resource) = resource {
        let current = held == Some(&Some(resource.version()));
        if due == Due::Send || !current {
            outcome.bytes += resource.segment().len();
            interest.held.insert(name, Some(resource.version()));
            outcome.resources.push(resource);
        }
        return;
    }
    let asked = named && due > Due::Check;
    if held.is_none() && asked {
        outcome.bytes += name.len();
        outcome.removed.push(name);
    } else if held.is_some() && may_remove {
        outcome.bytes += name.len();
        interest.held.remove(&name);
        outcome.removed.push(name);
    } else if held.is_some() {
        outcome.later.insert(name, due);
    }
}

/// Names and locators of a request, each once: a locator without parameters is its name, others are of no type of ours.
fn names(
    names: Vec<String>,
    locators: Vec<ResourceLocator>,
) -> Result<BTreeSet<Arc<str>>, Refusal> {
    let plain = locators
        .into_iter()
        .filter(|one| one.dynamic_parameters.is_empty());
    let all = names.into_iter().chain(plain.map(|one| one.name));
    all.map(|name| {
        if name.len() > MAX_NAME {
            Err(Refusal::LongName(name.len()))
        } else {
            Ok(name.into())
        }
    })
    .collect()
}

/// The verdict of a request, where it speaks of the response in flight. Names count whatever the nonce says.
fn verdict(interest: &mut Interest, nonce: &str, error: Option<String>) -> Option<Verdict> {
    let in_flight = interest.in_flight?;
    if nonce != in_flight.nonce.to_string() {
        return None;
    }
    interest.in_flight = None;
    Some(match error {
        None => Verdict::Accepted,
        Some(message) => Verdict::Rejected(message),
    })
}
