//! Writers without pause: each writes one new object after another, through whichever controller answers, and counts what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use tokio::task::JoinSet;
use tonic::Code;
use xds_api::maille::v1::{ApplyRequest, Document};

use crate::admin::Client;
use crate::cluster::LIMIT;

/// One write in so many is a service, so that there are resources of every type.
const SERVICE_EVERY: u64 = 50;
/// After a controller that does not answer, before the next is asked.
const PAUSE: Duration = Duration::from_millis(10);

/// The writers, at work.
#[derive(Debug)]
pub struct Writers {
    counts: Arc<Counts>,
    tasks: JoinSet<anyhow::Result<()>>,
}

/// What was acknowledged: of each writer's objects the first so many.
#[derive(Debug)]
pub struct Counts {
    acknowledged: Vec<AtomicU64>,
    is_over: AtomicBool,
}

impl Counts {
    /// All together.
    pub fn total(&self) -> u64 {
        self.acknowledged
            .iter()
            .map(|count| count.load(Ordering::SeqCst))
            .sum()
    }

    /// Namespace and name of every object that was acknowledged.
    pub fn objects(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.acknowledged
            .iter()
            .enumerate()
            .flat_map(|(writer, count)| {
                (0..count.load(Ordering::SeqCst))
                    .map(move |number| (namespace(writer), name(number)))
            })
    }
}

impl Writers {
    /// Sets so many to work.
    pub fn start(many: usize, clients: &[Client]) -> Self {
        let counts = Arc::new(Counts {
            acknowledged: (0..many).map(|_| AtomicU64::new(0)).collect(),
            is_over: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        for writer in 0..many {
            tasks.spawn(write(writer, clients.to_vec(), counts.clone()));
        }
        Self { counts, tasks }
    }

    /// All acknowledged so far.
    pub fn total(&self) -> u64 {
        self.counts.total()
    }

    /// Waits until so many are acknowledged.
    pub async fn reach(&mut self, total: u64) -> anyhow::Result<()> {
        let mut seen = (self.total(), Instant::now());
        while self.total() < total {
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
                bail!("a writer has ended before its time");
            }
            if self.total() > seen.0 {
                seen = (self.total(), Instant::now());
            }
            ensure!(
                seen.1.elapsed() < LIMIT,
                "no write was acknowledged for {LIMIT:?}"
            );
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Lets each finish the write that it is at.
    pub async fn end(mut self) -> anyhow::Result<Arc<Counts>> {
        self.counts.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.counts)
    }
}

async fn write(writer: usize, mut clients: Vec<Client>, counts: Arc<Counts>) -> anyhow::Result<()> {
    let first = writer % clients.len();
    clients.rotate_left(first);
    for number in 0.. {
        if counts.is_over.load(Ordering::SeqCst) {
            break;
        }
        put(&mut clients, writer, number, &counts).await?;
    }
    Ok(())
}

/// Writes one object. It is the same write however often it is sent: client and sequence say so.
async fn put(
    clients: &mut [Client],
    writer: usize,
    number: u64,
    counts: &Counts,
) -> anyhow::Result<()> {
    let document = Document {
        file: "-".to_owned(),
        text: object(writer, number),
    };
    let request = ApplyRequest {
        documents: vec![document],
        dry_run: false,
        client: namespace(writer),
        sequence: number + 1,
    };
    let started = Instant::now();
    loop {
        let Err(status) = clients[0].apply(request.clone()).await else {
            counts.acknowledged[writer].fetch_add(1, Ordering::SeqCst);
            return Ok(());
        };
        let is_final = matches!(
            status.code(),
            Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition
        );
        ensure!(!is_final, "a good write was refused: {status:?}");
        if counts.is_over.load(Ordering::SeqCst) {
            return Ok(());
        }
        ensure!(
            started.elapsed() < LIMIT,
            "a write was not acknowledged for {LIMIT:?}: {status:?}"
        );
        tokio::time::sleep(PAUSE).await;
        clients.rotate_left(1);
    }
}

fn namespace(writer: usize) -> String {
    format!("w{writer}")
}

fn name(number: u64) -> String {
    format!("n{number}")
}

fn object(writer: usize, number: u64) -> String {
    let (namespace, name) = (namespace(writer), name(number));
    // A service selects the workload that comes after it; the others need no labels.
    let (selected, labels) = match number % SERVICE_EVERY {
        0 => (self::name(number + 1), String::new()),
        1 => (String::new(), format!(r#","labels":{{"app":"{name}"}}"#)),
        _ => Default::default(),
    };
    let metadata = format!(r#""metadata":{{"namespace":"{namespace}","name":"{name}"{labels}}}"#);
    if !selected.is_empty() {
        return format!(
            r#"{{"apiVersion":"v1","kind":"Service",{metadata},"spec":{{"selector":{{"app":"{selected}"}},"ports":[{{"port":80}}]}}}}"#
        );
    }
    let address = format!(
        "10.{}.{}.{}",
        writer % 256,
        number / 250 % 256,
        number % 250 + 1
    );
    format!(
        r#"{{"apiVersion":"maille.dev/v1alpha1","kind":"Workload",{metadata},"spec":{{"addresses":["{address}"]}}}}"#
    )
}
