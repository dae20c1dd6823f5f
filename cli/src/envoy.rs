//! An Envoy in the mesh: its bootstrap, and the processes of `maille envoy run`.

pub mod arguments;
pub mod bootstrap;
pub mod child;
pub mod run;
