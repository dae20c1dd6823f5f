//! Load reports (LRS): what clients counted of their calls, kept for a few minutes in this controller's memory and nowhere else.
//!
//! `report` reads a message, `table` keeps what it says, both without IO; `service` lets clients in, `stream` hears one. What is pushed to clients knows nothing of it.

mod report;
mod service;
mod stream;
mod table;

#[cfg(test)]
mod tests;

pub use service::LoadReports;

use std::time::Duration;

/// What was reported longer ago than this is forgotten: the widest window that can be asked for.
const KEEP: Duration = Duration::from_secs(300);
/// The narrowest: some reports at the usual interval.
const NARROWEST: Duration = Duration::from_secs(10);
/// The window where nobody names one.
const WINDOW: Duration = Duration::from_secs(60);
