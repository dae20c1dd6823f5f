//! How the proxy reaches its controllers: which one, over what TLS, and when to try again.

mod backoff;
mod connect;

pub use backoff::Backoff;
pub use connect::{ConnectError, DialError, connect, dial};
pub(crate) use connect::{KEEP_ALIVE_INTERVAL, KEEP_ALIVE_LIMIT};

use crate::config::HostPort;
use rand::seq::SliceRandom;
use std::fmt;
use std::sync::Arc;

/// Every controller, asked in an order that each process draws for itself, so that clients spread.
#[derive(Debug, Clone)]
pub struct Controllers {
    all: Arc<[HostPort]>,
}

impl Controllers {
    /// Those that the configuration or the join token names; there must be one.
    pub fn new(all: Vec<HostPort>) -> Self {
        Self { all: all.into() }
    }

    /// All of them in a fresh random order.
    pub fn shuffled(&self) -> Vec<HostPort> {
        let mut order = self.all.to_vec();
        order.shuffle(&mut rand::rng());
        order
    }

    /// The same with one at the end: it has just ended a connection, because it stops or has too many.
    pub fn shuffled_after(&self, last: Option<&HostPort>) -> Vec<HostPort> {
        let mut order = self.shuffled();
        order.sort_by_key(|one| Some(one) == last);
        order
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, controller) in self.all.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(out, "{comma}{controller}")?;
        }
        Ok(())
    }
}
