//! Real rules in real network namespaces: what a connection meets, and what is left afterwards.

#![allow(clippy::unwrap_used)]

mod helper;
mod inbound;
mod outbound;
mod rules;
mod world;
