//! What was seen and is not agreed on yet. Pure: it holds no connection and reads no clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Instance, Kind, Name, ObjectKey, Observe, ObservedObject, Source, State};

/// What one observation takes: an entry of the log stays small, and others get their turn.
const PARTS: usize = 512;
/// Of what there is of a kind, this part may be missing from one list. More is likelier a list that is wrong.
const FREE_PERCENT: usize = 30;
/// So many may always be missing: a small namespace goes at once.
const ALWAYS_FREE: usize = 10;

/// The kinds that are watched one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Watched {
    Namespaces,
    Services,
    Pods,
    /// Nothing is agreed on of them: pods stand where their nodes do.
    Nodes,
}

/// The name of something that is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Namespace(String),
    Object(ObjectKey),
    Pod(Name),
}

/// Something as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Namespace(String),
    Object(ObservedObject),
    Pod(Box<Instance>),
}

impl Seen {
    fn key(&self) -> Key {
        match self {
            Self::Namespace(name) => Key::Namespace(name.clone()),
            Self::Object(object) => Key::Object(object.key.clone()),
            Self::Pod(pod) => Key::Pod(pod.name.clone()),
        }
    }
}

/// What became of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// It was taken.
    Taken,
    /// So many of those that there are were missing in it that nothing is deleted before a second list says the same.
    Doubted { missing: usize, of: usize },
}

/// What was seen since the last observation that was agreed on, and what was doubted.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// `None`: it is gone.
    pending: BTreeMap<Key, Option<Seen>>,
    doubted: BTreeMap<Watched, BTreeSet<Key>>,
}

impl Book {
    /// Notes what is new or has changed.
    pub(super) fn saw(&mut self, seen: Seen) {
        self.pending.insert(seen.key(), Some(seen));
    }

    /// Notes what is gone, by the API server's own word.
    pub(super) fn lost(&mut self, key: Key) {
        self.pending.insert(key, None);
    }

    /// Takes a complete list of one kind: what is agreed on and missing in it is gone.
    pub(super) fn list(&mut self, kind: Watched, seen: Vec<Seen>, state: &State) -> Listed {
        let known = known(kind, state);
        let here: BTreeSet<Key> = seen.iter().map(Seen::key).collect();
        for one in seen {
            self.saw(one);
        }
        let missing: BTreeSet<Key> = known.difference(&here).cloned().collect();
        let free = ALWAYS_FREE.max(known.len() * FREE_PERCENT / 100);
        let before = self.doubted.remove(&kind);
        let agrees = before.is_some_and(|before| missing.is_subset(&before));
        if missing.len() > free && !agrees {
            let doubted = Listed::Doubted {
                missing: missing.len(),
                of: known.len(),
            };
            self.doubted.insert(kind, missing);
            return doubted;
        }
        for key in missing {
            self.lost(key);
        }
        Listed::Taken
    }

    /// What is pending of a pod, else what is agreed on.
    pub(super) fn pod(&self, name: &Name, state: &State) -> Option<Instance> {
        match self.pending.get(&Key::Pod(name.clone())) {
            Some(Some(Seen::Pod(pod))) => Some(Instance::clone(pod)),
            Some(_) => None,
            None => {
                let entry = state.mesh().instances().get(name)?;
                let instance = &entry.instance;
                instance.source.is_some().then(|| instance.clone())
            }
        }
    }

    /// The next observation: the differences from what is agreed on, so many as go at once. What makes none is forgotten.
    pub(super) fn observation(&mut self, term: u64, state: &State) -> Observe {
        let mut observe = Observe {
            term,
            ..Observe::default()
        };
        self.pending.retain(|key, seen| {
            observe.len() >= PARTS || add(&mut observe, key, seen.as_ref(), state)
        });
        observe
    }

    /// Forgets what an observation held, and has not been seen otherwise since.
    pub(super) fn agreed(&mut self, observe: &Observe) {
        let objects = observe.objects.iter().cloned().map(Seen::Object);
        let pods = observe.pods.iter().cloned();
        let pods = pods.map(|pod| Seen::Pod(Box::new(pod)));
        let namespaces = observe.namespaces.iter().cloned().map(Seen::Namespace);
        for seen in objects.chain(pods).chain(namespaces) {
            let key = seen.key();
            if self.pending.get(&key) == Some(&Some(seen)) {
                self.pending.remove(&key);
            }
        }
        let objects = observe.gone_objects.iter().cloned().map(Key::Object);
        let pods = observe.gone_pods.iter().cloned().map(Key::Pod);
        let namespaces = observe.gone_namespaces.iter().cloned().map(Key::Namespace);
        for key in objects.chain(pods).chain(namespaces) {
            if self.pending.get(&key) == Some(&None) {
                self.pending.remove(&key);
            }
        }
    }
}

/// Everything of a kind that is agreed on, and observed.
fn known(kind: Watched, state: &State) -> BTreeSet<Key> {
    let mesh = state.mesh();
    match kind {
        Watched::Namespaces => mesh
            .kubernetes()
            .iter()
            .cloned()
            .map(Key::Namespace)
            .collect(),
        Watched::Services => {
            let all = state.observed().keys();
            let services = all.filter(|key| key.kind() == Kind::Service);
            services.cloned().map(Key::Object).collect()
        }
        Watched::Pods => {
            let all = mesh.instances().iter();
            let pods = all.filter(|(_, entry)| entry.instance.source.is_some());
            pods.map(|(name, _)| Key::Pod(name.clone())).collect()
        }
        Watched::Nodes => BTreeSet::new(),
    }
}

/// Adds a part that makes a difference; answers whether it is to be kept until it is agreed on.
fn add(observe: &mut Observe, key: &Key, seen: Option<&Seen>, state: &State) -> bool {
    let mesh = state.mesh();
    // What lies in a namespace that is not Kubernetes' yet, or never will be, waits for that.
    let namespace = match key {
        Key::Namespace(_) => None,
        Key::Object(key) => Some(&key.name.namespace),
        Key::Pod(name) => Some(&name.namespace),
    };
    if namespace.is_some_and(|one| !mesh.is_of_kubernetes(one)) {
        return seen.is_some();
    }
    match (key, seen) {
        (Key::Namespace(name), seen) => {
            let list = match seen {
                Some(_) => &mut observe.namespaces,
                None => &mut observe.gone_namespaces,
            };
            let differs = mesh.is_of_kubernetes(name) != seen.is_some();
            if differs {
                list.push(name.clone());
            }
            differs
        }
        (Key::Object(key), Some(Seen::Object(object))) => {
            let stored = mesh.stored(key);
            let same = stored.is_some_and(|stored| **stored.json == *object.json)
                && is_same(state.observed().get(key), &object.source);
            if !same {
                observe.objects.push(object.clone());
            }
            !same
        }
        (Key::Pod(name), Some(Seen::Pod(pod))) => {
            let known = mesh.instances().get(name).map(|entry| &entry.instance);
            let same = known.is_some_and(|known| is_equal(known, pod));
            if !same {
                observe.pods.push(Instance::clone(pod));
            }
            !same
        }
        (Key::Object(key), _) => {
            let differs = state.observed().contains_key(key);
            if differs {
                observe.gone_objects.push(key.clone());
            }
            differs
        }
        (Key::Pod(name), _) => {
            let known = mesh.instances().get(name);
            let differs = known.is_some_and(|entry| entry.instance.source.is_some());
            if differs {
                observe.gone_pods.push(name.clone());
            }
            differs
        }
    }
}

/// Whether it is the same object, in whatever version: what the mesh makes of it is compared beside.
fn is_same(known: Option<&Source>, seen: &Source) -> bool {
    known.is_some_and(|known| known.uid == seen.uid)
}

/// Whether a pod is the same to the mesh, though its version may be newer.
fn is_equal(known: &Instance, seen: &Instance) -> bool {
    let (Some(before), Some(after)) = (&known.source, &seen.source) else {
        return false;
    };
    before.uid == after.uid && {
        let mut same = seen.clone();
        same.source = known.source.clone();
        same == *known
    }
}

#[cfg(test)]
mod tests;
