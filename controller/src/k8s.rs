//! Kubernetes as a source of the mesh: the controller that leads lists and watches, and proposes the differences from what is agreed on.
//!
//! `translate` (pure) turns Kubernetes' objects into ours; `book` (pure) compares what was seen with the agreed state and makes observations of it;
//! `watch` is the conversation with the API server; `observer` lets the controller that leads do all this, and nobody else.
//!
//! Nothing is deleted but by a complete list or by the API server's own word, and not much at once without a second list that agrees. An API server
//! that is away, or refuses, stops changes and nothing else. `accounts` asks it whose a token
//! is. Absent: who may have which certificate (`identity`), writing to Kubernetes.

mod accounts;
mod book;
mod client;
mod observer;
mod translate;
mod watch;

pub use accounts::Reviewer;
pub use client::{ClientError, connect};
pub use observer::{Observer, ObserverMetrics};
