//! What decides which form of the mesh a client sees. Clients of one dialect share resources, and so bytes.

use xds_api::node::{ENVOY_AGENT, GRPC_AGENTS, NATIVE_AGENT};

use crate::model::Name;

/// A way of saying what the mesh is. Every service is visible to every client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Dialect {
    /// For `maille-proxy`.
    Native,
    /// For Envoy.
    Envoy,
    /// For programs with gRPC's xDS in them.
    Grpc,
}

impl Dialect {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Native, Self::Envoy, Self::Grpc];

    /// The dialect of a client program, by what it calls itself.
    pub(crate) fn of(agent: &str) -> Option<Self> {
        match agent {
            NATIVE_AGENT => Some(Self::Native),
            ENVOY_AGENT => Some(Self::Envoy),
            other if other.starts_with(GRPC_AGENTS) => Some(Self::Grpc),
            _ => None,
        }
    }

    /// A number below `ALL.len()`, for tables.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// What is one client's own and nobody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// How the mesh is told to it.
    pub(crate) dialect: Dialect,
    /// The workload that the client says it is, checked against its certificate.
    pub(crate) workload: Name,
    /// The SPIFFE id that it proved.
    pub(crate) identity: String,
}
