//! What an operator on the host, a prober and a scraper ask. Administration is loopback only and holds no secret; the metrics
//! port is on every address and serves readiness, liveness and metrics alone.

mod certificates;
mod dump;
mod http;
mod pages;
#[cfg(test)]
mod tests;

pub use http::{BindError, bind};
pub use pages::{Admin, Scope, Workload, Workloads};
