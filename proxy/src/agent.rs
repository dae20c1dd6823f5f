//! What stands beside an Envoy or a gRPC program: keeps its certificate, and carries its calls to the control plane.
//!
//! One Unix socket. SDS is answered here, for the private key leaves neither the host nor its user; ADS and load reports
//! are passed on to a controller over the agent's own mutual TLS. Absent: traffic.

mod certificate;
mod executor;
mod files;
mod relay;
mod relayed;
mod secrets;
mod serve;
mod socket;
#[cfg(test)]
mod tests;
mod upstream;
mod whole;

pub use files::{Files, FilesError};
pub use relay::Relay;
pub use serve::{Settings, start};
pub use socket::{Socket, SocketError};
