//! A fake ADS server and client over plain gRPC on loopback, for the tests of the other crates.
//!
//! They hold the real halves of the conversation; what is fake is the mesh behind the server and the use in the client.

use std::time::Duration;

mod client;
mod raw;
mod server;

pub use client::FakeClient;
pub use raw::RawStream;
pub use server::FakeServer;

/// How many messages may wait on a stream: more than a test sends at once.
const QUEUE: usize = 64;

/// How long a client waits for anything before it says that it did not come.
const PATIENCE: Duration = Duration::from_secs(10);
