//! What decides which form of the mesh a client sees. Clients of one dialect share resources, and so bytes.

use xds_api::node::{ENVOY_AGENT, GRPC_AGENTS, NATIVE_AGENT};

use crate::model::{Mesh, Name, Rollout};

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

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Envoy => "envoy",
            Self::Grpc => "grpc",
        }
    }

    /// The dialect of a client program, by what it calls itself.
    pub(crate) fn of(agent: &str) -> Option<Self> {
        match agent {
            NATIVE_AGENT => Some(Self::Native),
            ENVOY_AGENT => Some(Self::Envoy),
            other if other.starts_with(GRPC_AGENTS) => Some(Self::Grpc),
            _ => None,
        }
    }
}

/// A form of the mesh: clients of one scope share resources, and so bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scope {
    pub(crate) dialect: Dialect,
    /// Whether what is being rolled out has reached the client.
    pub(crate) ahead: bool,
}

impl Scope {
    /// How many there are.
    pub(crate) const COUNT: usize = 2 * Dialect::ALL.len();

    /// Of the clients that see what everybody sees.
    pub(crate) fn settled(dialect: Dialect) -> Self {
        Self {
            dialect,
            ahead: false,
        }
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of = |dialect| [false, true].map(|ahead| Self { dialect, ahead });
        Dialect::ALL.into_iter().flat_map(of)
    }

    /// A number below `COUNT`, for tables.
    pub(crate) fn index(self) -> usize {
        2 * self.dialect as usize + usize::from(self.ahead)
    }

    /// The mesh as its clients see it.
    pub(crate) fn mesh(self, mesh: &Mesh) -> &Mesh {
        match mesh.rollout() {
            Some(rollout) if self.ahead => rollout.mesh(),
            _ => mesh,
        }
    }
}

/// What of a client decides on what it is served in place of what is everybody's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    /// Whose routes hold for it.
    pub(crate) namespace: &'a str,
    /// What is near to it; empty where that is unknown.
    pub(crate) locality: &'a str,
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

impl Own {
    /// The scope that the client is in.
    pub(crate) fn scope(&self, mesh: &Mesh) -> Scope {
        let reached = |rollout: &Rollout| rollout.reaches(&self.workload);
        Scope {
            dialect: self.dialect,
            ahead: mesh.rollout().is_some_and(reached),
        }
    }
}
