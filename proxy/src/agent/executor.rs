//! Where hyper starts the tasks of its connections: under the supervisor, like every other task.

use crate::supervise::Tasks;
use hyper::rt::Executor;
use std::future::Future;

/// Starts what hyper asks for as ordinary tasks.
#[derive(Debug, Clone)]
pub(super) struct Supervised(pub(super) Tasks);

impl<F> Executor<F> for Supervised
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        self.0.spawn(async move {
            work.await;
        });
    }
}
