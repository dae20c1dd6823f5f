//! What a controller is built on and no configuration says.

use crate::raft::{OpenLog, Timing};

/// Raft's clocks and its log. The product has one, the default; the tests of consensus stand others in to show that they can fail.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Raft's clocks.
    pub timing: Timing,
    /// Opens the log.
    pub open_log: OpenLog,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            open_log: OpenLog::segments(),
        }
    }
}
