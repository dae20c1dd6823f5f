//! The admin API: over mutual TLS of the peers' CA, so that it answers without a quorum, and on a root-only local socket.
//!
//! One file per family of calls. What they need of the parts below stands in small traits, so that this module names none of them.

mod author;
mod authority;
mod client_status;
mod cluster;
mod documents;
mod families;
mod listen;
mod local;
mod nodes;
mod objects;
mod rollouts;
mod server;
mod tokens;
mod view;

pub use author::Author;
pub use client_status::ClientStatusService;
pub use cluster::Cluster;
pub use families::{Choice, ChunkStream, Clients, ClusterCalls, Objects, Sight};
pub use listen::{Listening, Services, serve};
pub use objects::{MeshObjects, ReadView, Reads};
pub use server::{AdminService, Families};

#[cfg(test)]
mod tests;
