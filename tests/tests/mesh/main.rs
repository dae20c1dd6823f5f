//! The mesh as a whole, by real processes: one file for each thing that must hold.

#![allow(clippy::unwrap_used)]

mod authorization;
mod bounds;
mod changes;
mod ejection;
mod forming;
mod matches;
mod members;
mod retries;
mod secrets;
mod timeouts;
mod weights;
mod wrong_controllers;
mod wrong_input;
