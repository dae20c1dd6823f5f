//! The mesh over xDS: to native proxies by delta ADS, and in every other form that the protocol has.
//!
//! `translate` makes resources of the mesh, `cache` keeps and shares them, `session` is one stream's state, `server` its
//! IO, `roster` what is known of all streams; `loads` is what clients report of their calls. Absent: who may be whom (`identity`), and how the mesh came to be (`model`).

mod cache;
pub(crate) mod capabilities;
mod changes;
mod hashes;
mod names;
mod reach;
mod roster;
mod scope;
mod server;
mod session;
mod translate;

mod loads;

pub use loads::LoadReports;
pub use server::{Hashes, Xds};
