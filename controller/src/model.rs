//! The mesh as one immutable value, and the commands that change it.
//!
//! Pure and deterministic: the same log gives the same bytes on every controller. What needs a clock, randomness or a
//! signature carries it in the command. Absent: IO, Raft, xDS, Kubernetes, the text that people write.
//!
//! [`State`] is all that the log agrees on. Its [`Mesh`] part is configuration and moves the *mesh index*; tokens,
//! issuance records, sealed secrets, members and the memory of answered writes stand beside it and do not.

pub mod applied;
pub mod apply;
pub mod attachment;
pub mod codec;
pub mod command;
pub mod endpoint;
pub mod instance;
pub mod issuance;
pub mod kinds;
pub mod limits;
pub mod mesh;
pub mod name;
pub mod observation;
pub mod relations;
pub mod rollout;
pub mod snapshot;
pub mod state;
pub mod token;
pub mod trust;
pub mod vip;

pub use applied::{Applied, ObjectOutcome, ObjectProblem, Outcome, Refusal, RefusalCode};
pub use codec::DecodeError;
pub use command::{Command, Proposal};
pub use endpoint::Endpoint;
pub use instance::{EnvoyListeners, Health, Instance, InstancePort, MeshMode, Protocol};
pub use issuance::IssuanceRecord;
pub use kinds::{AnyObject, Kind};
pub use mesh::{Change, Entry, InstanceEntry, Mesh, Table};
pub use name::{Name, ObjectKey};
pub use observation::{Observe, ObservedObject, Source};
pub use rollout::Rollout;
pub use state::{Member, State};
pub use token::{Token, TokenPurpose};
pub use trust::{Issuer, Root, RootPhase, Sealed};

/// The feature level that a new cluster starts at.
pub const FIRST_LEVEL: u32 = 1;
/// The lowest and the highest feature level that this binary implements.
pub const LEVELS: std::ops::RangeInclusive<u32> = 1..=LAST_LEVEL;
const LAST_LEVEL: u32 = if cfg!(feature = "next-level") { 2 } else { 1 };

#[cfg(test)]
pub(crate) mod tests;
