//! The delta conversation of xDS: a client's half, and the server's half in this form.
//!
//! Neither reads a clock nor does IO. The rules are those of the xDS protocol document; tests carry the numbers of
//! our own list of them (transport, versions, subscriptions, contents and order, reconnection).

mod client;

pub use crate::conversation::{Refusal, Request, Response, Server, Verdict, View};
pub use client::{Arrived, Client, Received, Rejected};
