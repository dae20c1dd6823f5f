//! Putting leaves on record: all that wait go into one proposal, and no leaf leaves before its record is agreed on.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::issue::IssueError;
use crate::agreement::{Agreement, AgreementError};
use crate::model::command::{Issue, IssueCertificate};
use crate::model::{Applied, Command, IssuanceRecord, Proposal, Refusal, RefusalCode};
use crate::supervise::Stage;

/// Leaves that may wait for their record: a mesh that starts at once. Beyond it callers are told to come back.
const WAITING: usize = 4096;
/// Leaves in one entry: some 100 KB.
const BATCH: usize = 256;
/// How long a record may take, an election included.
const RECORD_LIMIT: Duration = Duration::from_secs(8);
/// Between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Where leaves wait. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    waiting: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    certificate: IssueCertificate,
    recorded: oneshot::Sender<Result<(), IssueError>>,
}

impl Ledger {
    /// Starts the task that writes.
    pub(super) fn start(stage: &Stage, agreement: Arc<dyn Agreement>, controller: &str) -> Self {
        let (waiting, mut queue) = mpsc::channel(WAITING);
        let mut writer = Writer {
            agreement,
            author: format!("controller {controller}"),
            // A new process is a new writer: its sequence begins anew.
            client: format!("issuance/{controller}/{}", uuid::Uuid::new_v4()),
            sequence: 0,
        };
        let stopping = stage.stopping();
        stage.vital("issuance ledger", async move {
            let mut batch = Vec::new();
            loop {
                let received = tokio::select! {
                    () = stopping.cancelled() => return,
                    received = queue.recv_many(&mut batch, BATCH) => received,
                };
                if received == 0 {
                    return;
                }
                writer.record(std::mem::take(&mut batch)).await;
            }
        });
        Self { waiting }
    }

    /// Waits until the leaf is on record. `token` is used up with it; empty for a renewal.
    pub(super) async fn record(
        &self,
        record: &IssuanceRecord,
        token: &str,
    ) -> Result<(), IssueError> {
        let certificate = IssueCertificate {
            record: record.encode_to_vec().into(),
            token: token.to_owned(),
        };
        let (recorded, answer) = oneshot::channel();
        self.waiting
            .try_send(Waiting {
                certificate,
                recorded,
            })
            .map_err(|_| IssueError::Busy)?;
        answer
            .await
            .unwrap_or_else(|_| Err(IssueError::NotIssuing("it is stopping".to_owned())))
    }
}

struct Writer {
    agreement: Arc<dyn Agreement>,
    author: String,
    client: String,
    sequence: u64,
}

impl Writer {
    async fn record(&mut self, batch: Vec<Waiting>) {
        let all = batch
            .iter()
            .map(|waiting| waiting.certificate.clone())
            .collect();
        match self.propose(all).await {
            Ok(applied) => match applied.accepted() {
                Ok(_) => batch
                    .into_iter()
                    .for_each(|waiting| answer(waiting, Ok(()))),
                Err(refusal) => self.record_each(batch, refusal).await,
            },
            Err(failure) => {
                batch
                    .into_iter()
                    .for_each(|waiting| answer(waiting, Err(failure.clone().into())));
            }
        }
    }

    /// One bad token refuses a whole batch: then each is written alone, and only the bad one is refused.
    async fn record_each(&mut self, batch: Vec<Waiting>, refusal: Refusal) {
        if batch.len() == 1 {
            batch
                .into_iter()
                .for_each(|waiting| answer(waiting, Err(refused(&refusal))));
            return;
        }
        for waiting in batch {
            let result = match self.propose(vec![waiting.certificate.clone()]).await {
                Ok(applied) => applied
                    .accepted()
                    .map(drop)
                    .map_err(|refusal| refused(&refusal)),
                Err(failure) => Err(failure.into()),
            };
            answer(waiting, result);
        }
    }

    /// The same sequence for every attempt: however often it is sent, it is applied once.
    async fn propose(
        &mut self,
        certificates: Vec<IssueCertificate>,
    ) -> Result<Applied, AgreementError> {
        self.sequence += 1;
        let proposal = Proposal {
            author: self.author.clone(),
            client: self.client.clone(),
            sequence: self.sequence,
            time_millis: 0,
            command: Command::Issue(Issue { certificates }),
        };
        let deadline = Instant::now() + RECORD_LIMIT;
        loop {
            let failure = match self.agreement.propose(proposal.clone()).await {
                Ok(applied) => return Ok(applied),
                Err(failure) => failure,
            };
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// Who no longer listens has given up waiting; the record stands all the same.
fn answer(waiting: Waiting, result: Result<(), IssueError>) {
    waiting.recorded.send(result).ok();
}

fn refused(refusal: &Refusal) -> IssueError {
    match refusal.code() {
        RefusalCode::TokenUsed | RefusalCode::TokenExpired | RefusalCode::NotFound => {
            IssueError::Token(super::tokens::TokenError::Request(refusal.message.clone()))
        }
        _ => IssueError::Refused(refusal.message.clone()),
    }
}
