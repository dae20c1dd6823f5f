//! Writing: all proposals that wait go into one log entry; the answers come back one by one.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::payload;
use crate::agreement::AgreementError;
use crate::model::{Applied, Proposal};
use crate::store::space::Space;

/// Proposals that wait at the leader; more callers than that wait to be let in.
pub(super) const WAITING: usize = 16 << 10;
/// Proposals in one entry: what one apply may take without holding up others.
const BATCH_PROPOSALS: usize = 512;
/// Bytes in one entry, unless a single proposal is larger.
const BATCH_BYTES: usize = 1 << 20;
/// A single proposal: half of what a segment takes, far above what the model lets through.
const LARGEST_PROPOSAL: usize = 8 << 20;
/// Entries on their way at once. More would only make smaller entries.
const IN_FLIGHT: usize = 4;
/// How long stopping waits for entries that are on their way: a round to a quorum takes milliseconds where there is one.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long the free space is believed.
const ROOM_FOR: Duration = Duration::from_millis(200);

/// Why a leader did not write.
#[derive(Debug, Clone)]
pub(super) enum Refused {
    /// This controller does not lead. Nothing was written.
    NotLeader,
    /// Nothing was written.
    Unavailable(String),
    /// It may have been written.
    Unknown(String),
}

impl From<Refused> for AgreementError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotLeader => {
                Self::Unavailable("there is no leader; try again in a second".into())
            }
            Refused::Unavailable(text) => Self::Unavailable(text),
            Refused::Unknown(text) => Self::Unknown(text),
        }
    }
}

/// A proposal and who waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) proposal: Proposal,
    pub(super) answer: oneshot::Sender<Result<Applied, Refused>>,
}

/// Collects what waits and writes it, until the queue is closed or this controller stops.
pub(super) async fn run(
    core: Arc<Core>,
    mut queue: mpsc::Receiver<Waiting>,
    space: Space,
    stopping: CancellationToken,
) {
    let mut batcher = Batcher {
        core,
        space,
        room: Ok(()),
        room_until: Instant::now(),
        last_millis: 0,
    };
    let mut in_flight: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            Some(()) = in_flight.next() => {}
            first = queue.recv(), if in_flight.len() < IN_FLIGHT => {
                let Some(first) = first else { break };
                let batch = batcher.collect(first, &mut queue);
                if let Some(written) = batcher.submit(batch).await {
                    in_flight.push(written);
                }
            }
        }
    }
    // What is agreed on soon is answered; who waits for more hears that this controller is stopping.
    let answered = async { while in_flight.next().await.is_some() {} };
    if tokio::time::timeout(LAST_ANSWERS, answered).await.is_err() {
        tracing::info!("stopping with writes whose outcome is not known here");
    }
}

struct Batcher {
    core: Arc<Core>,
    space: Space,
    room: Result<(), String>,
    room_until: Instant,
    last_millis: u64,
}

#[derive(Default)]
struct Batch {
    proposals: Vec<Bytes>,
    answers: Vec<oneshot::Sender<Result<Applied, Refused>>>,
    bytes: usize,
}

impl Batcher {
    fn collect(&mut self, first: Waiting, queue: &mut mpsc::Receiver<Waiting>) -> Batch {
        let mut batch = Batch::default();
        let now = self.now();
        let mut next = Some(first);
        while let Some(waiting) = next.take() {
            self.add(&mut batch, waiting, now);
            if batch.proposals.len() < BATCH_PROPOSALS && batch.bytes < BATCH_BYTES {
                next = queue.try_recv().ok();
            }
        }
        batch
    }

    fn add(&mut self, batch: &mut Batch, waiting: Waiting, now: u64) {
        let Waiting {
            mut proposal,
            answer,
        } = waiting;
        proposal.time_millis = now;
        let encoded = proposal.encode();
        if encoded.len() > LARGEST_PROPOSAL {
            let text = format!(
                "the write has {} bytes, at most {LARGEST_PROPOSAL} go in one; split it",
                encoded.len()
            );
            drop(answer.send(Err(Refused::Unavailable(text))));
            return;
        }
        batch.bytes += encoded.len();
        batch.proposals.push(encoded);
        batch.answers.push(answer);
    }

    /// Hands a batch to Raft; the future ends when its answers were given.
    async fn submit(&mut self, batch: Batch) -> Option<BoxFuture<'static, ()>> {
        if let Err(text) = self.check_room() {
            answer_all(batch.answers, &Refused::Unavailable(text));
            return None;
        }
        if batch.proposals.is_empty() {
            return None;
        }
        let (responder, written) = ProgressResponder::complete_only();
        let entry = payload::batch(&batch.proposals);
        if let Err(fatal) = self
            .core
            .engine
            .client_write_ff(entry, Some(responder))
            .await
        {
            answer_all(batch.answers, &Refused::Unavailable(fatal.to_string()));
            return None;
        }
        let answers = batch.answers;
        Some(Box::pin(async move {
            match written.await {
                Ok(Ok(response)) => {
                    for (answer, applied) in answers.into_iter().zip(response.data.0) {
                        drop(answer.send(Ok(applied)));
                    }
                }
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => {
                    answer_all(answers, &Refused::NotLeader)
                }
                Ok(Err(error)) => answer_all(answers, &Refused::Unknown(error.to_string())),
                Err(_) => answer_all(
                    answers,
                    &Refused::Unknown("this controller is stopping".into()),
                ),
            }
        }))
    }

    /// The clock that entries are stamped with; never goes back while this controller leads.
    fn now(&mut self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.last_millis = self.last_millis.max(since.as_millis() as u64);
        self.last_millis
    }

    fn check_room(&mut self) -> Result<(), String> {
        if Instant::now() >= self.room_until {
            self.room_until = Instant::now() + ROOM_FOR;
            self.room = match self.space.room() {
                Ok(room) if !room.is_enough() => Err(format!(
                    "the leader's disk is nearly full: {} MiB are free and {} MiB are kept for its log; nothing was written. Make room on it; \
                     writes go on by themselves",
                    room.free >> 20,
                    room.reserve >> 20
                )),
                Ok(_) => Ok(()),
                Err(error) => Err(error.full_text()),
            };
        }
        self.room.clone()
    }
}

/// Who does not wait any more is not told.
fn answer_all(answers: Vec<oneshot::Sender<Result<Applied, Refused>>>, refused: &Refused) {
    for answer in answers {
        drop(answer.send(Err(refused.clone())));
    }
}
