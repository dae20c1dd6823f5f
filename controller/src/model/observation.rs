//! What the leader has seen in Kubernetes, as it is agreed on.
//!
//! A namespace of Kubernetes' belongs to it: what the controllers that lead have observed there is the only source of what this module names, and a
//! person's write of it is refused. A leader that was deposed must not write last, so every observation carries the term in which it was made.

use super::{Instance, Kind, Name, ObjectKey};

/// An object of Kubernetes', as one of its versions.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Source {
    /// `metadata.uid`: an object that is made anew under its name has another.
    #[prost(string, tag = "1")]
    pub uid: String,
    /// `metadata.resourceVersion`; grows with every change.
    #[prost(uint64, tag = "2")]
    pub version: u64,
}

/// Differences between what is agreed on and what Kubernetes has. Every part is taken or skipped by itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Observe {
    /// In which the observer leads. Refused once something was observed in a later one.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Namespaces that are Kubernetes' from now on.
    #[prost(string, repeated, tag = "2")]
    pub namespaces: Vec<String>,
    /// Namespaces that are gone, with all that is left in them.
    #[prost(string, repeated, tag = "3")]
    pub gone_namespaces: Vec<String>,
    /// Objects that are new or have changed.
    #[prost(message, repeated, tag = "4")]
    pub objects: Vec<ObservedObject>,
    /// Objects that are gone.
    #[prost(message, repeated, tag = "5")]
    pub gone_objects: Vec<ObjectKey>,
    /// Pods that are new or have changed; each has a `source`.
    #[prost(message, repeated, tag = "6")]
    pub pods: Vec<Instance>,
    /// Pods that are gone, or have ended.
    #[prost(message, repeated, tag = "7")]
    pub gone_pods: Vec<Name>,
}

/// An object as Kubernetes has it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ObservedObject {
    /// Which.
    #[prost(message, required, tag = "1")]
    pub key: ObjectKey,
    /// Canonical JSON of our kind.
    #[prost(string, tag = "2")]
    pub json: String,
    /// What it was made from.
    #[prost(message, required, tag = "3")]
    pub source: Source,
}

impl Observe {
    /// How many parts it has.
    pub fn len(&self) -> usize {
        let namespaces = self.namespaces.len() + self.gone_namespaces.len();
        let objects = self.objects.len() + self.gone_objects.len();
        namespaces + objects + self.pods.len() + self.gone_pods.len()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Kinds that are observed in a namespace of Kubernetes', and that nobody else may write there.
pub const fn is_observed(kind: Kind) -> bool {
    matches!(kind, Kind::Service)
}
