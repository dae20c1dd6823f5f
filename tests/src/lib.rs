//! What the tests and benches of the mesh as a whole share: real processes, applications that know nothing of the mesh, and load that is
//! counted at them. Modules, leaves first.

pub mod wait;

pub mod ports;

pub mod binaries;

pub mod process;

pub mod account;

pub mod client;

pub mod dns;

pub mod backend;

pub mod application;

pub mod load;

pub mod admin;

pub mod cluster;

pub mod identity;

pub mod fleet;

pub mod stream;

pub mod sidecar;

pub mod mesh;

pub mod kubernetes;
