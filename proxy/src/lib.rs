//! The sidecar: takes the connections of one workload, in and out, and carries them over mutual TLS. And the agent: what of
//! it an Envoy or a gRPC program needs beside itself.
//!
//! Modules are listed leaves first; a module uses only modules above it. Absent: Raft, the model, the admin API.

pub mod supervise;
pub mod config;
pub mod telemetry;
pub mod drain;
pub mod files;
pub mod controllers;
pub mod snapshot;
pub mod metrics;
pub mod identity;
pub mod net;
pub mod detect;
pub mod policy;
pub mod tls;
pub mod wire;
pub mod balance;
pub mod tcp;
pub mod opening;
pub mod http;
pub mod shared;
pub mod inbound;
pub mod outbound;
pub mod xds;
pub mod dns;
pub mod health;
pub mod registration;
pub mod admin;
pub mod agent;
pub mod app;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod testing;

#[cfg(test)]
mod pair_tests;
