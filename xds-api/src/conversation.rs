//! The server's half of an xDS conversation as a pure state machine, in either form: deltas, or the state of the world.
//!
//! One core keeps, per type, what the client asked for, what it holds and what is on its way. The forms differ in how a
//! request says its names (`sotw` turns lists into differences), in what a response must hold, and in how it is told
//! that something is not there. Neither clock nor IO is here; tests carry the numbers of our own list of xDS rules.

mod answer;
mod form;
mod interest;
mod request;
mod server;
mod standing;
mod view;

pub use form::Form;
pub(crate) use interest::WILDCARD;
pub(crate) use request::is_plain;
pub use request::{Refusal, Request, Verdict};
pub use server::{Response, Server};
pub use standing::{Stand, Standing};
pub use view::View;
