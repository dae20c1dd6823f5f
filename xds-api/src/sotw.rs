//! The state-of-the-world conversation of xDS: the server's half in this form.
//!
//! A stream is [`Server::of_the_world`]. A request names all that is wanted; [`Server::differences`] says what of it is
//! new, and from there on the stream is the same machine as one of deltas. Absent: a client's half, for our own
//! proxy speaks deltas.

mod differences;

pub use crate::conversation::{Refusal, Request, Response, Server, Verdict, View};
