//! What objects and instances are called.

use std::fmt;

use super::Kind;

/// A name within a namespace. Ordered by namespace first, so that a namespace is one range of a table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct Name {
    /// The namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Unique in it.
    #[prost(string, tag = "2")]
    pub name: String,
}

impl Name {
    /// `<namespace>/<name>`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object of one of the kinds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct ObjectKey {
    /// A [`Kind`]; decoding refuses any other number.
    #[prost(enumeration = "Kind", tag = "1")]
    pub kind: i32,
    /// Its name.
    #[prost(message, required, tag = "2")]
    pub name: Name,
}

impl ObjectKey {
    /// The object of this kind and name.
    pub fn new(kind: Kind, name: Name) -> Self {
        Self {
            kind: kind as i32,
            name,
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name)
    }
}
