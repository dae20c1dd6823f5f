//! Maille's control plane: a Raft cluster that agrees on the mesh, holds the CA key sealed, and serves xDS.
//!
//! Modules stand leaves first; a module uses only modules above it. `model` knows nothing of xDS or Raft; openraft is
//! named only under `raft`, sled only under `store`.

pub mod supervise;
pub mod telemetry;
pub mod config;
pub mod health;
pub mod model;
pub mod language;
pub mod store;
pub mod agreement;
pub mod pki;
pub mod tls;
pub mod audit;
pub mod peer_ca;
pub mod raft;
pub mod identity;
pub mod registration;
pub mod k8s;
pub mod xds;
pub mod admin;
pub mod app;
