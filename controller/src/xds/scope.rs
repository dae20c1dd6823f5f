//! What decides which form of the mesh a client sees. Clients of one scope share resources, and so bytes.

use crate::model::{Mesh, Name};

/// A way of saying what the mesh is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Dialect {
    /// For `maille-proxy`.
    Native,
}

/// The dialect and the feature level by which resources are made. Every service is visible to every client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scope {
    pub(crate) dialect: Dialect,
    pub(crate) level: u32,
}

impl Scope {
    /// The scope of a native client.
    pub(crate) fn native(mesh: &Mesh) -> Self {
        Self {
            dialect: Dialect::Native,
            level: mesh.level(),
        }
    }
}

/// What is one client's own and nobody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// The workload that the client says it is, checked against its certificate.
    pub(crate) workload: Name,
    /// The SPIFFE id that it proved.
    pub(crate) identity: String,
}
