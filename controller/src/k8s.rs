//! Kubernetes as a source of the mesh: the controller that leads lists and watches, and proposes the differences from what is agreed on.
//!
//! `translate` (pure) turns Kubernetes' objects into ours; `book` (pure) compares what was seen with the agreed state and makes observations of it;
//! `watch` is the conversation with the API server; `observer` lets the controller that leads do all this, and nobody else.
//!
//! Nothing is deleted but by a complete list or by the API server's own word, and not much at once without a second list that agrees. An API server
//! that is away, or refuses, stops changes and nothing else. Absent: who may do what (`identity`, `admission`), writing to Kubernetes.

mod book;
mod client;
mod observer;
mod translate;
mod watch;

pub use client::{ClientError, connect};
pub use observer::{Observer, ObserverMetrics};
