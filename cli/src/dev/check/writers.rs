//! Writers that never pause: each writes small objects under names of its own, at one controller, and remembers what was acknowledged and when.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::{Code, Status};
use xds_api::generated::maille::v1 as api;

use crate::cluster::Cluster;
use crate::dev::controllers::Controllers;
use crate::dev::demo::{self, NAMESPACE};
use crate::failure::{Failure, Outcome};

/// How long one attempt may take; the write is tried again under the same number.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts of one write: what is measured is the time until writes are accepted, so it must not be rounded up much.
const PAUSE: Duration = Duration::from_millis(5);
/// After a write: a few dozen a second are enough to notice any loss.
const REST: Duration = Duration::from_millis(15);

/// One acknowledged write.
#[derive(Clone, Debug)]
struct Acknowledged {
    name: String,
    /// When the attempt that was acknowledged began.
    begun: Instant,
    done: Instant,
}

/// What the writers have done.
#[derive(Debug, Default)]
struct Record {
    acknowledged: RefCell<Vec<Acknowledged>>,
    attempts: Cell<u64>,
    stopping: Cell<bool>,
    broken: RefCell<Option<Status>>,
}

/// The running writers: one at each controller.
#[derive(Debug)]
pub(super) struct Writers {
    record: Rc<Record>,
    tasks: Vec<JoinHandle<()>>,
}

/// What became of the writes.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) acknowledged: u64,
    pub(super) attempts: u64,
    /// Acknowledged and not there afterwards, at some controller.
    pub(super) lost: Vec<String>,
}

impl Writers {
    /// Starts them. Must run within a `LocalSet`.
    pub(super) fn start(controllers: &Controllers, label: &str) -> Writers {
        let record = Rc::new(Record::default());
        let tasks = (0..controllers.members.len())
            .map(|index| {
                let cluster = controllers.only(index, ATTEMPT);
                let prefix = format!("{label}-{index}");
                tokio::task::spawn_local(write(cluster, prefix, Rc::clone(&record)))
            })
            .collect();
        Writers { record, tasks }
    }

    /// When the first write was acknowledged that was sent after `since`; `None` while none was.
    pub(super) fn accepted(&self, since: Instant) -> Option<Instant> {
        let acknowledged = self.record.acknowledged.borrow();
        let later = acknowledged.iter().filter(|write| write.begun >= since);
        later.map(|write| write.done).min()
    }

    /// Stops them and looks for every acknowledged write at every controller.
    pub(super) async fn stop(self, controllers: &Controllers) -> Outcome<Written> {
        self.record.stopping.set(true);
        for task in self.tasks {
            task.await
                .map_err(|error| Failure::failed("a writer broke off").caused_by(error))?;
        }
        if let Some(status) = self.record.broken.borrow_mut().take() {
            return Err(Failure::from_status(
                "a writer's write was refused",
                &status,
                &[],
            ));
        }
        let names = self
            .record
            .acknowledged
            .borrow()
            .iter()
            .map(|write| write.name.clone())
            .collect::<BTreeSet<_>>();
        let mut lost = BTreeSet::new();
        for index in 0..controllers.members.len() {
            let there = present(&controllers.only(index, Duration::from_secs(20))).await?;
            lost.extend(names.difference(&there).cloned());
        }
        Ok(Written {
            acknowledged: names.len() as u64,
            attempts: self.record.attempts.get(),
            lost: lost.into_iter().collect(),
        })
    }
}

async fn write(cluster: Cluster, prefix: String, record: Rc<Record>) {
    let mut sequence = 0;
    while !record.stopping.get() {
        sequence += 1;
        let name = format!("{prefix}-{sequence}");
        let documents = vec![api::Document {
            file: name.clone(),
            text: json!(demo::written(&name)).to_string(),
        }];
        let request = api::ApplyRequest {
            documents,
            dry_run: false,
            client: cluster.writer().to_string(),
            sequence,
        };
        loop {
            let begun = Instant::now();
            record.attempts.set(record.attempts.get() + 1);
            let attempt = cluster
                .call_once(async |mut client| Ok(client.apply(request.clone()).await?.into_inner()))
                .await;
            match attempt {
                Ok(_) => {
                    record.acknowledged.borrow_mut().push(Acknowledged {
                        name,
                        begun,
                        done: Instant::now(),
                    });
                    break;
                }
                Err(status) if !passing(&status) => {
                    record.broken.borrow_mut().get_or_insert(status);
                    return;
                }
                // Not acknowledged: whether it is there or not, nothing was promised.
                Err(_) if record.stopping.get() => return,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        tokio::time::sleep(REST).await;
    }
}

/// Whether a refusal comes from the state of the cluster and not from the write.
fn passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Cancelled
            | Code::Unknown
    )
}

/// The names of all written objects that one controller has.
async fn present(cluster: &Cluster) -> Outcome<BTreeSet<String>> {
    let request = api::GetRequest {
        kind: "Workload".into(),
        namespace: NAMESPACE.into(),
        all_namespaces: false,
        name: String::new(),
        consistency: api::Consistency::Consistent.into(),
    };
    let answer = cluster
        .call(async |mut client| Ok(client.get(request.clone()).await?.into_inner()))
        .await;
    let answer =
        answer.map_err(|status| Failure::from_status("read what was written", &status, &[]))?;
    Ok(answer
        .objects
        .into_iter()
        .map(|object| object.name)
        .collect())
}
