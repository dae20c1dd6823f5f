//! The mesh as a whole, by real processes: one file for each thing that must hold.

#![allow(clippy::unwrap_used)]

mod forming;
mod members;
mod secrets;
