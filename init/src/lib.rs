//! Redirects a host's or a pod's traffic to the sidecar: planned as values, rendered as `iptables-restore` text, applied in one
//! transaction a family, and then the process ends.
//!
//! Modules, leaves first; each uses only those above it. Absent: the mesh, xDS, any network traffic. Nothing stays running.

pub mod failure;

pub mod plan;

pub mod render;

pub mod args;

pub mod system;

pub mod check;

pub mod apply;
