//! The client's half: keeps what was asked for and what is held, across streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::conversation::WILDCARD;
use crate::envoy::config::core::v3::Node;
use crate::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::google::rpc::Status;
use crate::type_url::TypeUrl;

/// The gRPC code of a NACK: the response was not acceptable.
const INVALID_ARGUMENT: i32 = 3;

/// The order of first requests on a stream: what is asked for by name comes first, since it decides what `*` means.
const OPENING: [TypeUrl; TypeUrl::ALL.len()] = [
    TypeUrl::Listener,
    TypeUrl::Secret,
    TypeUrl::Cluster,
    TypeUrl::Endpoints,
    TypeUrl::Extension,
    TypeUrl::Route,
];

/// A resource as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Its name.
    pub name: Arc<str>,
    /// The server's version of it.
    pub version: String,
    /// The message's bytes.
    pub body: Bytes,
}

/// A well-formed response: look at it, then say [`Client::accept`] or [`Client::reject`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its type.
    pub kind: TypeUrl,
    /// `system_version_info`.
    pub version: String,
    /// What was asked for and has come.
    pub resources: Vec<Arrived>,
    /// What is not there any more, or never was.
    pub removed: Vec<Arc<str>>,
    nonce: String,
}

/// A response that makes no sense, and the NACK to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// What was wrong with it.
    pub reason: String,
    /// The answer.
    pub request: Box<DeltaDiscoveryRequest>,
}

/// One type's state.
#[derive(Debug, Default)]
struct Kept {
    wildcard: bool,
    named: BTreeSet<Arc<str>>,
    held: BTreeMap<Arc<str>, String>,
    /// Whether this stream has seen a request of this type.
    opened: bool,
    /// Whether the server may send what was not asked for by name.
    unasked: bool,
}

/// A client's subscriptions and the versions that it holds. Lives longer than a stream.
#[derive(Debug, Default)]
pub struct Client {
    types: [Kept; TypeUrl::ALL.len()],
    /// The node, until the stream's first request has carried it.
    node: Option<Node>,
    connected: bool,
}

impl Client {
    /// A client that wants and holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a resource that is held from an earlier life, for example from disk.
    pub fn restore(&mut self, kind: TypeUrl, name: Arc<str>, version: String) {
        self.types[kind.index()].held.insert(name, version);
    }

    /// Takes resources of this type too that were not asked for by name, because something asked for implies them.
    /// Where this is not said they are ignored.
    pub fn take_unasked(&mut self, kind: TypeUrl) {
        self.types[kind.index()].unasked = true;
    }

    /// The names subscribed to.
    pub fn names(&self, kind: TypeUrl) -> &BTreeSet<Arc<str>> {
        &self.types[kind.index()].named
    }

    /// What is held, with versions.
    pub fn held(&self, kind: TypeUrl) -> &BTreeMap<Arc<str>, String> {
        &self.types[kind.index()].held
    }

    /// Begins a stream: the requests to send at once, in order.
    pub fn connect(&mut self, node: Node) -> Vec<DeltaDiscoveryRequest> {
        self.node = Some(node);
        self.connected = true;
        self.types.iter_mut().for_each(|kept| kept.opened = false);
        OPENING
            .into_iter()
            .filter_map(|kind| self.open(kind))
            .collect()
    }

    /// Notes that the stream is gone. Subscriptions and what is held stay.
    pub fn disconnect(&mut self) {
        self.connected = false;
    }

    /// Asks for names; asking again for one makes the server send it again. The request to send now, if any.
    pub fn subscribe(
        &mut self,
        kind: TypeUrl,
        names: &[Arc<str>],
    ) -> Option<DeltaDiscoveryRequest> {
        let kept = &mut self.types[kind.index()];
        kept.named.extend(names.iter().cloned());
        if !kept.opened {
            return self.open(kind);
        }
        let subscribe = names.iter().map(|name| name.to_string()).collect();
        self.request(kind, |request| request.resource_names_subscribe = subscribe)
    }

    /// Asks for all there is of a type. The request to send now, if any.
    pub fn subscribe_all(&mut self, kind: TypeUrl) -> Option<DeltaDiscoveryRequest> {
        let kept = &mut self.types[kind.index()];
        kept.wildcard = true;
        if !kept.opened {
            return self.open(kind);
        }
        self.request(kind, |request| {
            request.resource_names_subscribe.push(WILDCARD.to_owned())
        })
    }

    /// Asks no more for names, and forgets what `*` does not cover. The request to send now, if any.
    pub fn unsubscribe(
        &mut self,
        kind: TypeUrl,
        names: &[Arc<str>],
    ) -> Option<DeltaDiscoveryRequest> {
        let kept = &mut self.types[kind.index()];
        for name in names {
            kept.named.remove(name);
            if !kept.wildcard {
                kept.held.remove(name);
            }
        }
        let unsubscribe = names.iter().map(|name| name.to_string()).collect();
        let opened = kept.opened;
        self.request(kind, |request| {
            request.resource_names_unsubscribe = unsubscribe
        })
        .filter(|_| opened)
    }

    /// Reads a response.
    pub fn receive(&self, response: DeltaDiscoveryResponse) -> Result<Received, Rejected> {
        let nonce = response.nonce.clone();
        let type_url = response.type_url.clone();
        self.read(response).map_err(|reason| Rejected {
            request: Box::new(DeltaDiscoveryRequest {
                type_url,
                response_nonce: nonce,
                error_detail: Some(status(reason.clone())),
                ..Default::default()
            }),
            reason,
        })
    }

    /// Takes all of a response; the ACK to send.
    pub fn accept(&mut self, received: Received) -> DeltaDiscoveryRequest {
        let names: Vec<_> = received
            .resources
            .iter()
            .map(|one| one.name.clone())
            .collect();
        self.take(&received, &names);
        DeltaDiscoveryRequest {
            type_url: received.kind.to_string(),
            response_nonce: received.nonce,
            ..Default::default()
        }
    }

    /// Refuses a response, but for the resources in `taken`; the NACK to send. What was held of the rest stays held.
    pub fn reject(
        &mut self,
        received: Received,
        taken: &[Arc<str>],
        reason: String,
    ) -> DeltaDiscoveryRequest {
        self.take(&received, taken);
        DeltaDiscoveryRequest {
            type_url: received.kind.to_string(),
            response_nonce: received.nonce,
            error_detail: Some(status(reason)),
            ..Default::default()
        }
    }

    fn take(&mut self, received: &Received, names: &[Arc<str>]) {
        let held = &mut self.types[received.kind.index()].held;
        let names: BTreeSet<_> = names.iter().collect();
        for one in received
            .resources
            .iter()
            .filter(|one| names.contains(&&one.name))
        {
            held.insert(one.name.clone(), one.version.clone());
        }
        for name in &received.removed {
            held.remove(name);
        }
    }

    fn read(&self, response: DeltaDiscoveryResponse) -> Result<Received, String> {
        let kind = TypeUrl::parse(&response.type_url)
            .ok_or_else(|| format!("type {:?} was not asked for", response.type_url))?;
        let kept = &self.types[kind.index()];
        let wanted = |name: &str| kept.wildcard || kept.unasked || kept.named.contains(name);
        let mut seen = BTreeSet::new();
        let mut resources = Vec::new();
        for resource in response.resources {
            let name: Arc<str> = resource.name.into();
            if !seen.insert(name.clone()) {
                return Err(format!("{name:?} stands twice in one response"));
            }
            let any = resource
                .resource
                .ok_or_else(|| format!("{name:?} has no body"))?;
            if any.type_url != response.type_url {
                return Err(format!(
                    "{name:?} is a {:?} in a response of {kind}",
                    any.type_url
                ));
            }
            if wanted(&name) {
                resources.push(Arrived {
                    name,
                    version: resource.version,
                    body: any.value,
                });
            }
        }
        let removed: Vec<Arc<str>> = response
            .removed_resources
            .into_iter()
            .map(Arc::from)
            .collect();
        if let Some(name) = removed.iter().find(|name| seen.contains(*name)) {
            return Err(format!("{name:?} is both sent and removed"));
        }
        Ok(Received {
            kind,
            version: response.system_version_info,
            resources,
            removed,
            nonce: response.nonce,
        })
    }

    /// A type's first request on this stream; `None` where nothing of it is wanted or there is no stream.
    fn open(&mut self, kind: TypeUrl) -> Option<DeltaDiscoveryRequest> {
        let kept = &mut self.types[kind.index()];
        if !self.connected || (!kept.wildcard && kept.named.is_empty()) {
            return None;
        }
        kept.opened = true;
        let mut subscribe: Vec<String> = kept.named.iter().map(|name| name.to_string()).collect();
        if kept.wildcard && !subscribe.is_empty() {
            subscribe.push(WILDCARD.to_owned());
        }
        let held = kept
            .held
            .iter()
            .map(|(name, version)| (name.to_string(), version.clone()));
        Some(DeltaDiscoveryRequest {
            node: self.node.take(),
            type_url: kind.to_string(),
            resource_names_subscribe: subscribe,
            initial_resource_versions: held.collect(),
            ..Default::default()
        })
    }

    fn request(
        &self,
        kind: TypeUrl,
        fill: impl FnOnce(&mut DeltaDiscoveryRequest),
    ) -> Option<DeltaDiscoveryRequest> {
        let mut request = DeltaDiscoveryRequest {
            type_url: kind.to_string(),
            ..Default::default()
        };
        fill(&mut request);
        self.connected.then_some(request)
    }
}

fn status(message: String) -> Status {
    Status {
        code: INVALID_ARGUMENT,
        message,
        details: Vec::new(),
    }
}
