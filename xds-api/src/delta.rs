//! The delta conversation of xDS as two pure state machines: what a server keeps of a stream, and what a client does.
//!
//! Neither reads a clock nor does IO. The rules are those of the xDS protocol document; tests carry the numbers of
//! our own list of them (transport, versions, subscriptions, contents and order, reconnection).

mod client;
mod interest;
mod server;

pub use client::{Arrived, Client, Received, Rejected};
pub use server::{Refusal, Request, Response, Server, Verdict, View};
