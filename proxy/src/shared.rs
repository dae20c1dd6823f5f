//! What both directions of the data path hold.

use crate::drain::Work;
use crate::metrics::Metrics;
use crate::snapshot::{Directory, Snapshot};
use crate::supervise::Tasks;
use crate::tls::Mesh;
use futures_util::FutureExt;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Cheap to clone; one set a worker.
#[derive(Debug, Clone)]
pub struct Shared {
    /// What is known of the mesh.
    pub directory: Arc<dyn Directory>,
    /// This workload's certificate, once there is one.
    pub mesh: watch::Receiver<Option<Arc<Mesh>>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where connections' tasks are started.
    pub tasks: Tasks,
    /// Held by everything that a drain waits for.
    pub work: Work,
}

/// What the process has once, whichever workload a connection is for.
#[derive(Debug, Clone)]
pub struct Process {
    /// What is counted of connections that are no workload's.
    pub metrics: Metrics,
    /// Where connections' tasks are started.
    pub tasks: Tasks,
    /// Held by everything that a drain waits for.
    pub work: Work,
}

impl Shared {
    /// Looks at the snapshot that holds now. Do not hold on to what it gives.
    pub fn snapshot<T>(&self, look: impl FnOnce(&Arc<Snapshot>) -> T) -> T {
        look(&self.directory.snapshots().borrow())
    }
}

/// Gives each connection to `serve`, in a task of its own, until the drain begins.
pub async fn accept_all<F>(
    tasks: Tasks,
    work: Work,
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut draining = work.clone();
    loop {
        let (stream, _) = tokio::select! {
            accepted = crate::net::accept(&listener) => accepted,
            () = draining.drained() => return,
        };
        let held = work.clone();
        // Not an async block around it: that would take the room of the connection's whole life twice.
        tasks.spawn(serve(stream).map(move |()| drop(held)));
    }
}
