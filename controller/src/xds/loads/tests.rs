//! What is read of a report, and what is kept of it.
#![allow(clippy::unwrap_used)]

mod reports;
mod windows;
