//! `maille`: what a person types, and `maille dev`, the whole mesh on one machine.
//!
//! Leaves first; a module uses only modules above it. Deliberately absent: the controller's, the proxy's and the init's code. The CLI speaks
//! the admin API and starts the other binaries, which it finds beside itself.

pub mod failure;
pub mod printer;
pub mod readable;

pub mod args;
pub mod cluster;
pub mod http_get;
pub mod sibling;

pub mod reference;

pub mod dev;

pub mod agent;
pub mod envoy;
pub mod grpc;

pub mod commands;
