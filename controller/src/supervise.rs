//! Where tasks are started: each has a name, a vital one that ends takes the process with it, stages stop in reverse.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

/// How long one stage's tasks may take to end once told to. Longer than any single request that a stage serves; past it
/// the process goes on stopping, since whoever stops it will lose patience before long and kill.
pub const STAGE_STOP_LIMIT: Duration = Duration::from_secs(8);

/// A vital task that ended although nobody had asked it to.
#[derive(Debug, thiserror::Error)]
#[error(
    "the task `{stage}/{task}` ended on its own ({reason}); without it this controller must not go on"
)]
pub struct VitalTaskEnded {
    /// The stage it belonged to.
    pub stage: String,
    /// Its name.
    pub task: String,
    /// `returned` or `panicked`.
    pub reason: &'static str,
}

/// Owns the stages of the process in the order in which they were started.
#[derive(Debug)]
pub struct Supervisor {
    stages: Vec<Stage>,
    ended: mpsc::UnboundedSender<VitalTaskEnded>,
    endings: mpsc::UnboundedReceiver<VitalTaskEnded>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// A supervisor without stages.
    pub fn new() -> Self {
        // Unbounded is bounded here: a task sends at most once, when it ends.
        let (ended, endings) = mpsc::unbounded_channel();
        Self {
            stages: Vec::new(),
            ended,
            endings,
        }
    }

    /// Opens the next stage. Stages are stopped in the reverse of the order in which they were opened.
    pub fn stage(&mut self, name: &str) -> Stage {
        let stage = Stage {
            name: name.into(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            ended: self.ended.clone(),
        };
        self.stages.push(stage.clone());
        stage
    }

    /// Waits until a vital task ends on its own.
    pub async fn vital_task_ended(&mut self) -> VitalTaskEnded {
        self.endings
            .recv()
            .await
            .expect("the supervisor itself holds a sender")
    }

    /// Stops every stage, the latest first, and waits for each within `STAGE_STOP_LIMIT`.
    pub async fn stop(self) {
        for stage in self.stages.into_iter().rev() {
            stage.stop().await;
        }
    }
}

/// Tasks that are stopped together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stage {
    name: Arc<str>,
    stopping: CancellationToken,
    tasks: TaskTracker,
    ended: mpsc::UnboundedSender<VitalTaskEnded>,
}

impl Stage {
    /// Is cancelled once the stage is to stop. A task watches it and returns.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Starts a task that must live as long as the stage.
    pub fn vital(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.vital_on(&Handle::current(), name, task);
    }

    /// Like `vital`, on another runtime.
    pub fn vital_on(
        &self,
        runtime: &Handle,
        name: &str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let running = runtime.spawn(task);
        let (stage, task) = (self.name.to_string(), name.to_owned());
        let (stopping, ended) = (self.stopping.clone(), self.ended.clone());
        self.tasks.spawn(async move {
            let reason = match running.await {
                Ok(()) => "returned",
                Err(failure) if failure.is_panic() => "panicked",
                Err(_) => return,
            };
            if !stopping.is_cancelled() {
                error!(stage, task, reason, "a vital task ended");
                // Nobody listens once the process is already stopping.
                ended
                    .send(VitalTaskEnded {
                        stage,
                        task,
                        reason,
                    })
                    .ok();
            }
        });
    }

    /// Starts a task that may end when its work is done: one connection, one stream.
    pub fn task(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.task_on(&Handle::current(), name, task);
    }

    /// Like `task`, on another runtime.
    pub fn task_on(
        &self,
        runtime: &Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stage = self.name.clone();
        // There are tens of thousands of these: each is one task, without another that watches it.
        let task = async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                error!(stage = &*stage, task = name, "panicked");
            }
        };
        self.tasks.spawn_on(task, runtime);
    }

    /// How many tasks the stage has now.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether the stage has no task.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Tells the stage's tasks to end and waits for them within `STAGE_STOP_LIMIT`.
    pub async fn stop(&self) {
        debug!(stage = &*self.name, tasks = self.tasks.len(), "stopping");
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(STAGE_STOP_LIMIT, self.tasks.wait())
            .await
            .is_err()
        {
            warn!(
                stage = &*self.name,
                tasks = self.tasks.len(),
                "did not stop in time; going on without it"
            );
        } else {
            info!(stage = &*self.name, "stopped");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn a_vital_task_that_ends_is_reported_by_name_and_an_ordinary_one_is_not() {
        let mut supervisor = Supervisor::new();
        let stage = supervisor.stage("raft");
        stage.task("connection", async {});
        stage.vital("tick", async {});
        let ended = supervisor.vital_task_ended().await;
        assert_eq!(
            ("raft", "tick", "returned"),
            (ended.stage.as_str(), ended.task.as_str(), ended.reason)
        );
    }

    #[tokio::test]
    async fn a_vital_task_that_panics_is_reported() {
        let mut supervisor = Supervisor::new();
        supervisor
            .stage("xds")
            .vital("serve", async { panic!("on purpose") });
        assert_eq!("panicked", supervisor.vital_task_ended().await.reason);
    }

    #[tokio::test]
    async fn stages_stop_in_reverse_and_say_nothing_of_vital_tasks_that_were_told_to_end() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::new();
        let mut endings = supervisor.endings;
        supervisor.endings = mpsc::unbounded_channel().1;
        for name in ["first", "second", "third"] {
            let stage = supervisor.stage(name);
            let (stopping, order) = (stage.stopping(), Arc::clone(&order));
            stage.vital("only", async move {
                stopping.cancelled().await;
                order.lock().unwrap().push(name);
            });
        }
        supervisor.stop().await;
        assert_eq!(vec!["third", "second", "first"], *order.lock().unwrap());
        assert!(endings.recv().await.is_none());
    }
}
