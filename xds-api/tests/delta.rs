//! The delta conversation, rule by rule and at random.

#![allow(clippy::unwrap_used)]

#[path = "delta/mesh.rs"]
mod mesh;
#[path = "delta/random.rs"]
mod random;
#[path = "delta/rules.rs"]
mod rules;
#[path = "delta/script.rs"]
mod script;
