//! Hosts' registrations: sidecars say where their workload is, keep a lease on it, and are taken out when it ends.
//!
//! Only beginnings, changes and ends are written to the log. Leases live in the memory of the controller that leads.

mod leases;
mod renewals;
mod service;
mod table;

pub use leases::Leases;
pub use service::RegistrationService;

use std::time::Duration;

/// How long a registration lives without a renewal; clients renew at a third of it.
pub const LEASE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests;
