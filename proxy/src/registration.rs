//! Tells the control plane where the workload is and how it does, keeps that alive, and takes it back before a drain.

mod instance;
mod lease;
#[cfg(test)]
mod tests;

pub use instance::instance;
pub use lease::{Registration, Settings, start};
