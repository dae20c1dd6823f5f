//! The mesh as a whole, by real processes: one file for each thing that must hold.

#![allow(clippy::unwrap_used)]

#[macro_use]
mod kinds;

mod administrators;
mod authorization;
mod balancing;
mod bounds;
mod calls;
mod changes;
mod ejection;
mod forming;
mod grpc;
mod history;
mod live;
mod loads;
mod matches;
mod members;
mod opaque;
mod parents;
mod pressure;
mod refusals;
mod retries;
mod rollouts;
mod secrets;
mod services;
mod settings;
mod shared_host;
mod standing;
mod timeouts;
mod told;
mod upgrades;
mod weights;
mod wrong_controllers;
mod wrong_input;
