//! The conversation with the API server: one list and one watch for each kind, begun again by kube's own watcher where they break off.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1 as core;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::book::{Key, Seen, Watched};
use super::translate;
use crate::model::{Kind, Name, ObjectKey};

/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Between two complaints about one kind.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// What a watch says.
#[derive(Debug)]
pub(super) enum Sight {
    /// A complete list.
    List(Watched, Vec<Seen>),
    /// One that is new or has changed.
    Saw(Seen),
    /// One that is gone, or is nothing to the mesh any more.
    Lost(Key),
    /// Where a pod runs; none: it is gone.
    PodAt(Name, Option<String>),
    /// Where a node stands.
    NodeAt(String, String),
}

/// Where nodes stand, `<region>/<zone>` by name: pods are translated by it.
pub(super) type Localities = Arc<Mutex<BTreeMap<String, String>>>;

/// Nodes come first where the API server lists them at all: without them pods would have no locality, and get one later.
pub(super) fn nodes(client: Client, localities: Localities) -> BoxStream<'static, Vec<Sight>> {
    events::<core::Node>(client, "nodes", move |event| {
        let (Event::Apply(node) | Event::InitApply(node)) = event else {
            return Vec::new();
        };
        let Some(name) = node.metadata.name.clone() else {
            return Vec::new();
        };
        let locality = translate::locality(&node);
        let mut known = localities.lock().unwrap_or_else(PoisonError::into_inner);
        match known.insert(name.clone(), locality.clone()) {
            Some(before) if before == locality => Vec::new(),
            _ => vec![Sight::NodeAt(name, locality)],
        }
    })
}

/// Namespaces.
pub(super) fn namespaces(client: Client) -> BoxStream<'static, Vec<Sight>> {
    listed::<core::Namespace>(client, Watched::Namespaces, "namespaces", |namespace| {
        let name = namespace.metadata.name.clone()?;
        Some((Key::Namespace(name.clone()), Some(Seen::Namespace(name))))
    })
}

/// Services.
pub(super) fn services(client: Client) -> BoxStream<'static, Vec<Sight>> {
    listed::<core::Service>(client, Watched::Services, "services", |service| {
        let name = translate::name(&service.metadata)?;
        let seen = translate::service(service).map(Seen::Object);
        Some((Key::Object(ObjectKey::new(Kind::Service, name)), seen))
    })
}

/// Pods.
pub(super) fn pods(
    client: Client,
    trust_domain: String,
    localities: Localities,
) -> BoxStream<'static, Vec<Sight>> {
    let read = move |pod: &core::Pod| {
        let name = translate::name(&pod.metadata)?;
        let known = localities.lock().unwrap_or_else(PoisonError::into_inner);
        let locality = translate::node(pod).and_then(|node| known.get(node));
        let locality = locality.map_or("", String::as_str);
        let seen = translate::pod(pod, &trust_domain, locality);
        Some((Key::Pod(name), seen.map(|pod| Seen::Pod(Box::new(pod)))))
    };
    let mut listing = Listing::new(Watched::Pods, read);
    events::<core::Pod>(client, "pods", move |event| {
        let place = match &event {
            Event::Apply(pod) | Event::InitApply(pod) => {
                let name = translate::name(&pod.metadata);
                name.map(|name| Sight::PodAt(name, translate::node(pod).map(str::to_owned)))
            }
            Event::Delete(pod) => {
                translate::name(&pod.metadata).map(|name| Sight::PodAt(name, None))
            }
            Event::Init | Event::InitDone => None,
        };
        let mut sights = listing.take(event);
        sights.extend(place);
        sights
    })
}

fn listed<K>(
    client: Client,
    kind: Watched,
    plural: &'static str,
    read: impl FnMut(&K) -> Option<(Key, Option<Seen>)> + Send + 'static,
) -> BoxStream<'static, Vec<Sight>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut listing = Listing::new(kind, read);
    events::<K>(client, plural, move |event| listing.take(event))
}

/// Every event of one kind, in all namespaces, as sights. Errors are told, and tried over.
fn events<K>(
    client: Client,
    plural: &'static str,
    mut read: impl FnMut(Event<K>) -> Vec<Sight> + Send + 'static,
) -> BoxStream<'static, Vec<Sight>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().page_size(PAGE);
    let events = watcher::watcher(Api::<K>::all(client), config).default_backoff();
    let mut complaints = Complaints::default();
    let sights = events.map(move |event| match event {
        Ok(event) => {
            complaints.end(plural);
            read(event)
        }
        Err(error) => {
            complaints.complain(plural, &error);
            Vec::new()
        }
    });
    sights.boxed()
}

/// Gathers a list until it is complete.
struct Listing<F> {
    kind: Watched,
    read: F,
    list: Option<Vec<Seen>>,
}

impl<F> Listing<F> {
    const fn new(kind: Watched, read: F) -> Self {
        Self {
            kind,
            read,
            list: None,
        }
    }

    fn take<K>(&mut self, event: Event<K>) -> Vec<Sight>
    where
        F: FnMut(&K) -> Option<(Key, Option<Seen>)>,
    {
        match event {
            Event::Init => {
                self.list = Some(Vec::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let seen = (self.read)(&object).and_then(|(_, seen)| seen);
                self.list.get_or_insert_default().extend(seen);
                Vec::new()
            }
            Event::InitDone => {
                let list = self.list.take().unwrap_or_default();
                vec![Sight::List(self.kind, list)]
            }
            Event::Apply(object) => match (self.read)(&object) {
                Some((_, Some(seen))) => vec![Sight::Saw(seen)],
                Some((key, None)) => vec![Sight::Lost(key)],
                None => Vec::new(),
            },
            Event::Delete(object) => {
                let read = (self.read)(&object);
                read.map(|(key, _)| Sight::Lost(key)).into_iter().collect()
            }
        }
    }
}

/// Says that a kind cannot be watched: once at first, then seldom; and that it can again.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    fn complain(&mut self, plural: &str, error: &watcher::Error) {
        let due = self
            .last
            .is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY);
        if due {
            self.last = Some(Instant::now());
            let error = full_text(error);
            tracing::warn!(kind = plural, %error, "Kubernetes does not let this kind be watched; what is known of it stays as it is");
        }
    }

    fn end(&mut self, plural: &str) {
        if self.last.take().is_some() {
            tracing::info!(kind = plural, "watched again");
        }
    }
}

fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
