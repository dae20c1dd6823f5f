//! Where tasks are started: each has a name, and a vital one that ends takes the process with it.

mod readiness;

pub use readiness::{Pending, Readiness};

use std::error::Error;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, debug, error, error_span, warn};

/// How long tasks may take to end once told to. What they still hold is on disk or not worth waiting for.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// A vital task that ended although nobody had asked it to.
#[derive(Debug, thiserror::Error)]
#[error("the task `{task}` ended; without it this proxy must not go on")]
pub struct VitalTaskEnded {
    /// Its name.
    pub task: &'static str,
    /// Why, where it could say.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// Starts tasks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    vital: TaskTracker,
    ordinary: TaskTracker,
    stopping: CancellationToken,
    ended: mpsc::UnboundedSender<VitalTaskEnded>,
    /// In which they are started. None: in none.
    span: Option<Span>,
}

/// Tells of vital tasks that ended.
#[derive(Debug)]
pub struct Endings {
    endings: mpsc::UnboundedReceiver<VitalTaskEnded>,
}

/// A process's tasks, and where their untimely ends are told.
pub fn tasks() -> (Tasks, Endings) {
    // Unbounded is bounded here: a vital task sends once, when it ends.
    let (ended, endings) = mpsc::unbounded_channel();
    let tasks = Tasks {
        vital: TaskTracker::new(),
        ordinary: TaskTracker::new(),
        stopping: CancellationToken::new(),
        ended,
        span: None,
    };
    (tasks, Endings { endings })
}

impl Endings {
    /// Waits until a vital task ends on its own.
    pub async fn next(&mut self) -> VitalTaskEnded {
        match self.endings.recv().await {
            Some(ended) => ended,
            // Every `Tasks` is gone, so no task is left that could end.
            None => std::future::pending().await,
        }
    }
}

impl Tasks {
    /// The same process's, for one of several workloads: what its tasks log carries its name.
    pub fn of_workload(&self, workload: &str) -> Self {
        Self {
            // Whatever the log's level, a line must not lose whose it is.
            span: Some(error_span!("workload", name = workload)),
            ..self.clone()
        }
    }

    /// Starts a task that must live as long as the process.
    pub fn vital(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.vital_or(task, async {
            work.await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// Starts a task that must live as long as the process and can say why it does not.
    pub fn vital_or<E>(
        &self,
        task: &'static str,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Error + Send + Sync + 'static,
    {
        let guard = Guard {
            task,
            source: None,
            stopping: self.stopping.clone(),
            ended: self.ended.clone(),
        };
        let guarded = async move {
            // All of it moves in, so that it is dropped with the task, whatever way that ends.
            let mut guard = guard;
            let end = work.await;
            guard.source = end.err().map(Into::into);
        };
        match &self.span {
            Some(span) => self.vital.spawn(guarded.instrument(span.clone())),
            None => self.vital.spawn(guarded),
        };
        debug!(task, "started");
    }

    /// Starts a task that may end when its work is done: one connection, one question. Nobody waits for it at the end: what
    /// must be finished is held by the drain.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        match &self.span {
            Some(span) => self.ordinary.spawn(work.instrument(span.clone())),
            None => self.ordinary.spawn(work),
        };
    }

    /// Is cancelled once the tasks are to end. A task watches it and returns.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// How many tasks there are now.
    pub fn count(&self) -> usize {
        self.vital.len() + self.ordinary.len()
    }

    /// Tells the tasks to end and waits for the vital ones, within a limit.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.vital.close();
        let ended = tokio::time::timeout(STOP_LIMIT, self.vital.wait()).await;
        if ended.is_err() {
            let tasks = self.vital.len();
            warn!(tasks, "did not end in time; going on without them");
        }
    }
}

/// Tells of the end of a vital task, by return or by panic.
struct Guard {
    task: &'static str,
    source: Option<Box<dyn Error + Send + Sync>>,
    stopping: CancellationToken,
    ended: mpsc::UnboundedSender<VitalTaskEnded>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.stopping.is_cancelled() {
            return;
        }
        error!(task = self.task, "a vital task ended");
        // Nobody listens once the process is already ending.
        let (task, source) = (self.task, self.source.take());
        self.ended.send(VitalTaskEnded { task, source }).ok();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_ends_is_told_of_and_an_ordinary_one_is_not() {
        let (tasks, mut endings) = tasks();
        tasks.spawn(async {});
        tasks.vital("dns", async {});
        assert_eq!(endings.next().await.task, "dns");
    }

    #[tokio::test]
    async fn a_vital_task_that_fails_says_why() {
        let (tasks, mut endings) = tasks();
        tasks.vital_or("identity", async { Err(std::io::Error::other("no token")) });
        let ended = endings.next().await;
        assert_eq!(ended.source.unwrap().to_string(), "no token");
    }

    #[tokio::test]
    async fn a_vital_task_that_panics_is_told_of() {
        let (tasks, mut endings) = tasks();
        tasks.vital("xds", async { panic!("on purpose") });
        assert_eq!(endings.next().await.task, "xds");
    }

    #[tokio::test]
    async fn a_task_that_was_told_to_end_is_not_told_of() {
        let (tasks, mut endings) = tasks();
        let stopping = tasks.stopping();
        tasks.vital("admin", async move { stopping.cancelled().await });
        tasks.stop().await;
        assert_eq!(tasks.count(), 0);
        drop(tasks);
        let silence = tokio::time::timeout(Duration::from_millis(1), endings.next());
        assert!(silence.await.is_err());
    }
}
