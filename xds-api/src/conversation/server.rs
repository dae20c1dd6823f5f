//! One stream's state: takes requests, and says what may be sent now.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::answer::{Answer, Walk};
use super::form::Form;
use super::interest::{Due, InFlight, Interest, WILDCARD};
use super::request::{MAX_NAMES, MAX_WAITING, Refusal, Request, Verdict, names};
use super::view::View;
use crate::envoy::config::core::v3::Node;
use crate::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use crate::resource::{Resource, Version};
use crate::type_url::TypeUrl;

/// What goes out: one response without its mesh version.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its type.
    pub kind: TypeUrl,
    /// Its nonce, unique within the stream.
    pub nonce: u64,
    /// What was added or has changed; no name twice. Where the state of the world is spoken, clusters and listeners are
    /// all that the client is to have.
    pub resources: Vec<Arc<Resource>>,
    /// What is no longer there, or was asked for and is not there; always empty where the state of the world is spoken.
    pub removed: Vec<Arc<str>>,
    /// What was asked for by name and is not there: `resource_errors`.
    pub missing: Vec<Arc<str>>,
    /// `version_info` of the state of the world: the version of all that the client then holds of the type. `None` in
    /// deltas, where only the resources' versions count.
    pub version: Option<Version>,
}

/// One stream's state. State belongs to the stream, never to the node id: a client may have several streams.
/// A copy shows what would be said next, should the mesh change.
#[derive(Debug, Default, Clone)]
pub struct Server {
    form: Form,
    /// A first request without names asks for nothing, instead of for everything.
    names_only: bool,
    node: Option<Node>,
    types: [Interest; TypeUrl::ALL.len()],
    last_nonce: u64,
    names: usize,
}

impl Server {
    /// A stream of deltas on which nothing was said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stream of the state of the world on which nothing was said yet. Its requests pass through
    /// [`Self::differences`].
    pub fn of_the_world() -> Self {
        Self {
            form: Form::StateOfTheWorld,
            ..Self::default()
        }
    }

    /// Takes a first request without names as asking for nothing: gRPC never means everything by it.
    pub fn names_only(mut self) -> Self {
        self.names_only = true;
        self
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

    /// Whether everything of this type is wanted.
    pub fn is_wildcard(&self, kind: TypeUrl) -> bool {
        self.interest(kind).wildcard
    }

    /// Whether everything of this type is wanted only because no request has named anything.
    pub fn is_unnamed(&self, kind: TypeUrl) -> bool {
        self.interest(kind).legacy
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
            return Ok(Request::unknown());
        };
        let subscribe = names(
            request.resource_names_subscribe,
            request.resource_locators_subscribe,
        )?;
        let unsubscribe = names(
            request.resource_names_unsubscribe,
            request.resource_locators_unsubscribe,
        )?;
        let interest = self.interest(kind);
        let new = |name: &&Arc<str>| &***name != WILDCARD && !interest.named.contains(*name);
        let subscribed: Vec<_> = subscribe.iter().filter(new).cloned().collect();
        let old = |name: &&Arc<str>| interest.named.contains(*name) && !subscribe.contains(*name);
        let unsubscribed: Vec<_> = unsubscribe.iter().filter(old).cloned().collect();
        let named = self.names + subscribed.len() - unsubscribed.len();
        let held = self.held() + request.initial_resource_versions.len();
        if named > MAX_NAMES || held > MAX_NAMES {
            return Err(Refusal::TooManyNames);
        }
        if interest.waiting() > MAX_WAITING {
            return Err(Refusal::TooManyWaiting);
        }
        self.names = named;
        let (form, legacy) = (self.form, !self.names_only);
        let interest = &mut self.types[kind.index()];
        if interest.opened {
            let gone = unsubscribe.iter();
            gone.for_each(|name| interest.unsubscribe(name, form));
            subscribe
                .iter()
                .for_each(|name| interest.subscribe(name, form));
        } else {
            interest.open(&subscribe, &request.initial_resource_versions, legacy);
        }
        let error = request.error_detail.map(|status| status.message);
        let same = subscribe.is_empty() && unsubscribe.is_empty() && error.is_none();
        if same && is_repeated(interest, &request.response_nonce) {
            self.warm(kind);
        }
        Ok(Request {
            kind: Some(kind),
            subscribed,
            unsubscribed,
            verdict: verdict(
                &mut self.types[kind.index()],
                &request.response_nonce,
                error,
            ),
        })
    }

    /// Answers a request that only repeats what is known. Envoy asks in this way for the endpoints of a cluster that has
    /// changed, and takes in no other cluster before they have come.
    fn warm(&mut self, kind: TypeUrl) {
        if kind != TypeUrl::Endpoints || self.form != Form::StateOfTheWorld {
            return;
        }
        let warming = self.interest(TypeUrl::Cluster).in_flight.as_ref();
        let warming = warming.map(|one| one.endpoints.clone());
        let endpoints = &mut self.types[kind.index()];
        for name in warming.into_iter().flatten() {
            if endpoints.named.contains(&name) {
                endpoints.mark(name, Due::Send);
            }
        }
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

    /// Goes on as if everything that was sent had been accepted.
    pub fn assume_accepted(&mut self) {
        for interest in &mut self.types {
            interest.in_flight = None;
            interest.left.clear();
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

    /// An empty response, to show that the stream lives; `None` where the type is closed or has one in flight, and where
    /// it would mean that there is nothing any more.
    pub fn beat(&mut self, kind: TypeUrl) -> Option<Response> {
        let interest = self.interest(kind);
        let free = interest.opened && interest.in_flight.is_none() && self.form == Form::Delta;
        free.then(|| self.send(kind, Answer::default()))
    }

    fn next_of(&mut self, kind: TypeUrl, view: &impl View) -> Option<Response> {
        let interest = self.interest(kind);
        if !interest.opened || interest.in_flight.is_some() || !view.ready(kind) {
            return None;
        }
        let mut walk = Walk {
            may_remove: self.may_remove(kind),
            interest: &mut self.types[kind.index()],
            kind,
            form: self.form,
            view,
        };
        let answer = walk.take();
        let greet = std::mem::take(&mut self.types[kind.index()].greet);
        (greet || !answer.is_empty()).then(|| self.send(kind, answer))
    }

    fn send(&mut self, kind: TypeUrl, answer: Answer) -> Response {
        self.last_nonce += 1;
        let nonce = self.last_nonce;
        let endpoints: Vec<Arc<str>> = answer
            .resources
            .iter()
            .filter_map(|one| one.endpoints().cloned())
            .collect();
        for name in &endpoints {
            // Envoy holds back the whole cluster type until the endpoints of each changed cluster come (again).
            self.types[TypeUrl::Endpoints.index()].mark(name.clone(), Due::Send);
        }
        let form = self.form;
        let interest = &mut self.types[kind.index()];
        interest.last_nonce = nonce;
        let mut response = Response {
            kind,
            nonce,
            resources: answer.resources,
            removed: answer.removed,
            missing: answer.missing,
            version: None,
        };
        if form == Form::StateOfTheWorld {
            response.removed = Vec::new();
            response.version = Some(interest.version());
            if form.is_whole(kind) {
                response.resources = interest.whole.values().cloned().collect();
            }
        }
        let names = response.resources.iter();
        interest.in_flight = Some(InFlight {
            nonce,
            names: names.map(|one| one.name().clone()).collect(),
            endpoints: match form {
                Form::Delta => Vec::new(),
                Form::StateOfTheWorld => endpoints,
            },
        });
        response
    }

    /// Removals are the last to go: when nothing that could refer to what is removed is under way any more.
    fn may_remove(&self, kind: TypeUrl) -> bool {
        let referring: &[TypeUrl] = match kind {
            TypeUrl::Listener => &[],
            TypeUrl::Extension | TypeUrl::Route => &[TypeUrl::Listener],
            TypeUrl::Secret => &[TypeUrl::Listener, TypeUrl::Cluster],
            TypeUrl::Cluster => &[TypeUrl::Listener, TypeUrl::Extension, TypeUrl::Route],
            TypeUrl::Endpoints => &[
                TypeUrl::Listener,
                TypeUrl::Extension,
                TypeUrl::Route,
                TypeUrl::Cluster,
            ],
        };
        referring.iter().all(|one| self.interest(*one).is_idle())
    }

    /// What is kept of each type, in the order of [`TypeUrl::ALL`].
    pub(super) fn interests(&self) -> &[Interest] {
        &self.types
    }

    fn interest(&self, kind: TypeUrl) -> &Interest {
        &self.types[kind.index()]
    }
}

/// Whether a request without differences answers a response that was answered before.
fn is_repeated(interest: &Interest, nonce: &str) -> bool {
    let answered = interest.in_flight.is_none() && interest.last_nonce > 0;
    answered && nonce == interest.last_nonce.to_string()
}

/// The verdict of a request, where it speaks of the response in flight. Names count whatever the nonce says.
fn verdict(interest: &mut Interest, nonce: &str, error: Option<String>) -> Option<Verdict> {
    let about = |one: &mut InFlight| nonce == one.nonce.to_string();
    let answered = interest.in_flight.take_if(about)?;
    interest.left.clear();
    interest.judged(answered.names, error.as_deref());
    Some(match error {
        None => Verdict::Accepted,
        Some(message) => Verdict::Rejected(message),
    })
}
