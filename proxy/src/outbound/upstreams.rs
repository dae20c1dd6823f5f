//! Explicit listeners: opened and closed as the control plane says.

use super::Outbound;
use crate::net;
use crate::snapshot::Upstream;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How soon an address that is in use is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Outbound {
    /// Keeps explicit listeners as the snapshot has them, until the drain begins. With `shared` each worker has its own
    /// socket on the same address. `ready` hears when those of the first snapshot are open.
    pub async fn follow_upstreams(self: Arc<Self>, shared: bool, ready: oneshot::Sender<()>) {
        let mut ready = Some(ready);
        let mut snapshots = self.shared.directory.snapshots().clone();
        let mut work = self.shared.work.clone();
        let mut open: HashMap<Upstream, DropGuard> = HashMap::new();
        loop {
            let inbound = snapshots.borrow_and_update().inbound.clone();
            let wanted = inbound
                .as_ref()
                .map(|inbound| inbound.upstreams.as_slice())
                .unwrap_or_default();
            // Closed first: an address may have moved from one target to another.
            open.retain(|upstream, _| wanted.contains(upstream));
            let mut missing = false;
            for upstream in wanted {
                if !open.contains_key(upstream) {
                    match self.clone().listen(upstream, shared) {
                        Ok(guard) => drop(open.insert(upstream.clone(), guard)),
                        Err(error) => {
                            missing = true;
                            let target = &*upstream.target;
                            tracing::warn!(%error, listen = %upstream.listen, target, "cannot listen; trying again");
                        }
                    }
                }
            }
            if inbound.is_some()
                && !missing
                && let Some(ready) = ready.take()
            {
                // Nobody waits any more where the process is ending.
                ready.send(()).ok();
            }
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if missing => {}
                () = work.drained() => return,
            }
        }
    }

    /// Opens one; it closes when the guard is dropped. Connections that it has accepted go on.
    fn listen(self: Arc<Self>, upstream: &Upstream, shared: bool) -> std::io::Result<DropGuard> {
        // Workers share addresses, and the kernel would spread one workload's connections over another's listener.
        let held = match &self.settings.gate {
            Some((gate, own)) => Some(gate.hold(*own, upstream.listen)?),
            None => None,
        };
        let listener = net::listen(upstream.listen, shared)?;
        let closing = CancellationToken::new();
        let (outbound, target, closed) = (self.clone(), upstream.target.clone(), closing.clone());
        self.shared.tasks.spawn(async move {
            let serve = |stream| outbound.clone().serve_explicit(stream, target.clone());
            let (tasks, work) = (outbound.shared.tasks.clone(), outbound.shared.work.clone());
            let accepting = crate::shared::accept_all(tasks, work, listener, serve);
            tokio::select! {
                () = accepting => {}
                () = closed.cancelled() => {}
            }
            drop(held);
        });
        Ok(closing.drop_guard())
    }
}
