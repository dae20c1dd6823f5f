//! What is known of a `maille-proxy agent` by its configuration and by asking it: both what stands beside an Envoy and what stands beside a gRPC program.

pub mod account;
pub mod settings;
