//! How the data path asks: for what is known now, and for a destination that is not known yet.

use super::{Listener, Snapshot};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// The answer about a destination.
#[derive(Debug, Clone)]
pub enum Resolution {
    /// It exists, and everything that it reaches is in the current snapshot.
    Found(Arc<Listener>),
    /// The control plane says that there is no such destination.
    Missing,
    /// Nobody could say before the deadline.
    Unavailable,
}

/// A resolution under way.
pub type ResolveFuture<'a> = Pin<Box<dyn Future<Output = Resolution> + Send + 'a>>;

/// Everything that the data path knows of the mesh.
pub trait Directory: Send + Sync + std::fmt::Debug {
    /// Snapshots as they come; the one that holds now is always there.
    fn snapshots(&self) -> &watch::Receiver<Arc<Snapshot>>;

    /// What `out/…` leads to. Called once a connection, so it also tells which names are in use.
    fn resolve<'a>(&'a self, name: &'a str, deadline: Instant) -> ResolveFuture<'a>;

    /// The snapshot that holds now.
    fn current(&self) -> Arc<Snapshot> {
        self.snapshots().borrow().clone()
    }
}
