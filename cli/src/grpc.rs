//! A gRPC program in the mesh: its bootstrap.

pub mod bootstrap;
