//! What the planes of Maille say to each other.
//!
//! Absent: IO, TLS and the mesh. The conversation's two halves are pure state machines; controller and proxy add the rest.

pub mod generated;
pub mod issuance;
pub mod join_token;
pub mod load_metrics;

pub mod mesh_version;
pub mod spiffe;

pub mod node;
pub mod type_url;

pub mod resource;

pub mod conversation;

pub mod delta;
pub mod services;
pub mod sotw;

#[cfg(feature = "testing")]
pub mod testing;

pub use generated::{envoy, google, maille};
