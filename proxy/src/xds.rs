//! The conversation with the control plane: asks, translates, publishes, remembers.
//!
//! `state` is pure: responses in, requests and snapshots out. `client` is the task around it, `reports` tells a controller what was called. What was told last is kept on
//! disk, and stays in force while the control plane is silent.

mod client;
mod directory;
mod disk;
mod names;
mod publish;
mod reports;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod translate;
mod workload;

pub use client::{Settings, start};
pub use directory::{Answer, Status, Xds};
pub use reports::report;
pub use workload::Workload;
