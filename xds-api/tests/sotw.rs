//! The state-of-the-world conversation, rule by rule and at random.

#![allow(clippy::unwrap_used)]

#[path = "delta/mesh.rs"]
mod mesh;
#[path = "sotw/random.rs"]
mod random;
#[path = "sotw/contents.rs"]
mod contents;
#[path = "sotw/script.rs"]
mod script;
#[path = "sotw/subscriptions.rs"]
mod subscriptions;
#[path = "sotw/versions.rs"]
mod versions;
