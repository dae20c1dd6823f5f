//! What the control plane has told, and the conversation about it. Pure: no clock, no IO.

use super::publish::{Key, Source, Users};
use super::translate::{Value, translate};
use crate::snapshot::Snapshot;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use xds_api::delta::{Arrived, Client, Received};
use xds_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use xds_api::mesh_version::MeshVersion;
use xds_api::node::Claim;
use xds_api::type_url::TypeUrl;

/// One resource: what came, and what it means.
#[derive(Debug, Clone)]
pub(super) struct One {
    pub(super) version: String,
    pub(super) body: Bytes,
    pub(super) value: Value,
}

/// Everything that is held, by type and name.
#[derive(Debug, Default)]
pub(super) struct Held {
    types: [HashMap<Arc<str>, One>; TypeUrl::ALL.len()],
}

impl Held {
    pub(super) fn of(&self, kind: TypeUrl) -> &HashMap<Arc<str>, One> {
        &self.types[kind.index()]
    }

    fn of_mut(&mut self, kind: TypeUrl) -> &mut HashMap<Arc<str>, One> {
        &mut self.types[kind.index()]
    }
}

/// The controller shows an older mesh than we have seen: it must not be listened to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller is at {theirs}, behind {ours} which was seen before")]
pub(super) struct Behind {
    theirs: MeshVersion,
    ours: MeshVersion,
}

/// What a response led to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The ACK or NACK.
    pub(super) request: DeltaDiscoveryRequest,
    /// What was wrong. The rest of the response was taken.
    pub(super) refusal: Option<String>,
    /// Whether a resource has changed, beside the index.
    pub(super) changed: bool,
    /// Listeners that came, and those that do not exist.
    pub(super) found: Vec<Arc<str>>,
    pub(super) missing: Vec<Arc<str>>,
}

/// The client's whole memory.
#[derive(Debug)]
pub(super) struct State {
    client: Client,
    held: Held,
    refused: HashSet<Key>,
    users: Users,
    /// The newest that was seen.
    version: Option<MeshVersion>,
    /// The newest when the stream began: responses of one stream may cross, a stream must not go back.
    floor: Option<MeshVersion>,
    identity: Arc<str>,
    snapshot: Arc<Snapshot>,
}

impl State {
    /// Subscribed to what every proxy needs: its own listener, the roots, and whatever they reach.
    pub(super) fn new(identity: Arc<str>, inbound: Arc<str>, roots: Arc<str>) -> Self {
        let mut client = Client::new();
        client.subscribe(TypeUrl::Listener, &[inbound]);
        client.subscribe(TypeUrl::Secret, &[roots]);
        for kind in [TypeUrl::Cluster, TypeUrl::Endpoints, TypeUrl::Route] {
            client.subscribe_all(kind);
        }
        Self {
            client,
            held: Held::default(),
            refused: HashSet::new(),
            users: Users::default(),
            version: None,
            floor: None,
            identity,
            snapshot: Arc::default(),
        }
    }

    /// Takes what an earlier life of the process held. What cannot be read any more is left out and will be sent again.
    pub(super) fn restore(
        &mut self,
        version: MeshVersion,
        resources: Vec<(TypeUrl, Arc<str>, String, Bytes)>,
    ) {
        for (kind, name, version, body) in resources {
            let Ok(value) = self.read(kind, &name, &body) else {
                continue;
            };
            if kind == TypeUrl::Listener {
                self.client.subscribe(kind, &[Arc::clone(&name)]);
            }
            self.client
                .restore(kind, Arc::clone(&name), version.clone());
            let one = One {
                version,
                body,
                value,
            };
            self.held.of_mut(kind).insert(name, one);
        }
        self.version = Some(version);
        let all = TypeUrl::ALL.into_iter().flat_map(|kind| {
            let names = self.held.of(kind).keys();
            names.map(move |name| (kind, Arc::clone(name)))
        });
        self.publish(&all.collect::<Vec<_>>());
    }

    /// What is published now.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn version(&self) -> Option<MeshVersion> {
        self.version
    }

    /// Begins a stream. The claim's view is filled in here.
    pub(super) fn connect(&mut self, mut claim: Claim) -> Vec<DeltaDiscoveryRequest> {
        self.floor = self.version;
        claim.view = self.version;
        self.client.connect(claim.message())
    }

    pub(super) fn disconnect(&mut self) {
        self.client.disconnect();
    }

    /// About how many routes and clusters are held that nothing uses any more: those that the server has not taken back yet.
    /// A cluster's endpoints go last.
    pub(super) fn superfluous(&self) -> usize {
        let held = |kind| self.held.of(kind).len();
        let clusters = held(TypeUrl::Cluster).max(held(TypeUrl::Endpoints));
        (held(TypeUrl::Route) + clusters).saturating_sub(self.users.count())
    }

    /// Asks for listeners.
    pub(super) fn want(&mut self, names: &[Arc<str>]) -> Option<DeltaDiscoveryRequest> {
        if names.is_empty() {
            return None;
        }
        self.client.subscribe(TypeUrl::Listener, names)
    }

    /// Lets go of listeners.
    pub(super) fn forget(&mut self, names: &[Arc<str>]) -> Option<DeltaDiscoveryRequest> {
        if names.is_empty() {
            return None;
        }
        for name in names {
            self.held.of_mut(TypeUrl::Listener).remove(name);
            self.refused.remove(&(TypeUrl::Listener, Arc::clone(name)));
        }
        let gone = names.iter().cloned();
        let gone: Vec<_> = gone.map(|name| (TypeUrl::Listener, name)).collect();
        self.publish(&gone);
        self.client.unsubscribe(TypeUrl::Listener, names)
    }

    /// Takes a response in, as far as it can be used.
    pub(super) fn receive(&mut self, response: DeltaDiscoveryResponse) -> Result<Outcome, Behind> {
        let received = match self.client.receive(response) {
            Ok(received) => received,
            Err(rejected) => {
                return Ok(Outcome {
                    request: *rejected.request,
                    refusal: Some(rejected.reason),
                    changed: false,
                    found: Vec::new(),
                    missing: Vec::new(),
                });
            }
        };
        match received.version.parse::<MeshVersion>() {
            Ok(theirs) => self.advance(theirs)?,
            Err(error) => return Ok(self.reject(received, &[], error.to_string())),
        }
        let came = received.resources.iter().map(|one| &one.name);
        let touched = came.chain(&received.removed).cloned();
        let touched: Vec<Key> = touched.map(|name| (received.kind, name)).collect();
        let mut taken = Vec::new();
        let mut problems = Vec::new();
        for one in &received.resources {
            match self.take(received.kind, one) {
                Ok(()) => taken.push(Arc::clone(&one.name)),
                Err(problem) => problems.push(problem),
            }
        }
        for name in &received.removed {
            self.remove(received.kind, name);
        }
        let outcome = match problems.is_empty() {
            true => self.accept(received),
            false => self.reject(received, &taken, problems.join("; ")),
        };
        self.publish(&touched);
        Ok(outcome)
    }

    fn advance(&mut self, theirs: MeshVersion) -> Result<(), Behind> {
        let same_life = |ours: &MeshVersion| ours.incarnation == theirs.incarnation;
        if let Some(ours) = self.floor.filter(same_life).filter(|ours| theirs < *ours) {
            return Err(Behind { theirs, ours });
        }
        let newest = self.version.filter(same_life).map(|ours| ours.max(theirs));
        self.version = Some(newest.unwrap_or(theirs));
        Ok(())
    }

    fn accept(&mut self, received: Received) -> Outcome {
        let listeners = received.kind == TypeUrl::Listener;
        let changed = !received.resources.is_empty() || !received.removed.is_empty();
        let names = received.resources.iter().map(|one| Arc::clone(&one.name));
        let found = if listeners {
            names.collect()
        } else {
            Vec::new()
        };
        let missing = if listeners {
            received.removed.clone()
        } else {
            Vec::new()
        };
        Outcome {
            request: self.client.accept(received),
            refusal: None,
            changed,
            found,
            missing,
        }
    }

    fn reject(&mut self, received: Received, taken: &[Arc<str>], reason: String) -> Outcome {
        let listeners = received.kind == TypeUrl::Listener;
        let changed = !taken.is_empty() || !received.removed.is_empty();
        let missing = match listeners {
            true => received.removed.clone(),
            false => Vec::new(),
        };
        Outcome {
            request: self.client.reject(received, taken, reason.clone()),
            refusal: Some(reason),
            changed,
            found: if listeners {
                taken.to_vec()
            } else {
                Vec::new()
            },
            missing,
        }
    }

    fn take(&mut self, kind: TypeUrl, arrived: &Arrived) -> Result<(), String> {
        let Arrived {
            name,
            version,
            body,
        } = arrived;
        let key = (kind, Arc::clone(name));
        match self.read(kind, name, body) {
            Ok(value) => {
                self.refused.remove(&key);
                let one = One {
                    version: version.clone(),
                    body: body.clone(),
                    value,
                };
                self.held.of_mut(kind).insert(Arc::clone(name), one);
                Ok(())
            }
            Err(problem) => {
                self.refused.insert(key);
                Err(format!("{} {name:?}: {problem}", kind.short()))
            }
        }
    }

    fn read(&self, kind: TypeUrl, name: &Arc<str>, body: &Bytes) -> Result<Value, String> {
        let value = translate(kind, name, body).map_err(|invalid| invalid.to_string())?;
        match &value {
            Value::Inbound(inbound) if inbound.identity != self.identity => Err(format!(
                "identity: {} is meant, this proxy is {}",
                inbound.identity, self.identity
            )),
            _ => Ok(value),
        }
    }

    fn remove(&mut self, kind: TypeUrl, name: &Arc<str>) {
        self.refused.remove(&(kind, Arc::clone(name)));
        // A workload that is withdrawn drains under the policy that it was told last, and nobody stops trusting everybody.
        let kept = kind == TypeUrl::Secret || name.starts_with("in/");
        if !kept {
            self.held.of_mut(kind).remove(name);
        }
    }

    /// Brings the snapshot up to date after these came, went or were refused.
    fn publish(&mut self, touched: &[Key]) {
        let source = Source {
            held: &self.held,
            refused: &self.refused,
            version: self.version.unwrap_or_default(),
        };
        let next = source.snapshot(&self.snapshot, touched, &mut self.users);
        self.snapshot = Arc::new(next);
    }
}
