//! The read index that every stream waits for as it opens, so that no client goes back in time when it changes replica.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agreement::{Agreement, AgreementError};
use crate::model::State;

/// Reads begin at most this often: all streams that open meanwhile share the next one. A thousand reconnecting clients
/// cost a hundred reads a second, not a thousand.
const SPACING: Duration = Duration::from_millis(10);
/// How long one read may take. An election is over by then, or there is no quorum.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// Streams that may wait for a read to begin; the next ones wait for room.
const WAITING: usize = 1024;

type Answer = Result<Arc<State>, AgreementError>;

/// Gives out read indices. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    waiting: mpsc::Sender<oneshot::Sender<Answer>>,
}

impl Gate {
    /// A gate, and the task that must run for it.
    pub(super) fn new(
        agreement: Arc<dyn Agreement>,
        stopping: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (waiting, requests) = mpsc::channel(WAITING);
        (Self { waiting }, run(agreement, stopping, requests))
    }

    /// A state that is at least as new as everything that anybody had seen before the call.
    pub(super) async fn read(&self) -> Answer {
        let stopping = || AgreementError::Unavailable("this controller is stopping".to_owned());
        let (sender, answer) = oneshot::channel();
        self.waiting.send(sender).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

async fn run(
    agreement: Arc<dyn Agreement>,
    stopping: CancellationToken,
    mut requests: mpsc::Receiver<oneshot::Sender<Answer>>,
) {
    let mut earliest = Instant::now();
    loop {
        let first = tokio::select! {
            () = stopping.cancelled() => return,
            first = requests.recv() => first,
        };
        let Some(first) = first else { return };
        tokio::time::sleep_until(earliest).await;
        earliest = Instant::now() + SPACING;
        let mut waiting = vec![first];
        while let Ok(next) = requests.try_recv() {
            waiting.push(next);
        }
        let answer = tokio::time::timeout(READ_LIMIT, agreement.read()).await;
        let late =
            |_| AgreementError::Unavailable(format!("no quorum answered within {READ_LIMIT:?}"));
        let answer = answer.map_err(late).and_then(|answer| answer);
        for one in waiting {
            // A stream that has gone meanwhile does not need it any more.
            one.send(answer.clone()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::{BoxFuture, join_all};
    use tokio::sync::watch;
    use xds_api::maille::v1::LeaseId;

    use super::*;
    use crate::model::{Applied, Proposal};

    #[derive(Debug, Default)]
    struct Counting {
        reads: AtomicUsize,
    }

    impl Agreement for Counting {
        fn state(&self) -> watch::Receiver<Arc<State>> {
            watch::Sender::new(Arc::default()).subscribe()
        }

        fn leads(&self) -> watch::Receiver<bool> {
            watch::Sender::new(true).subscribe()
        }

        fn propose(&self, _: Proposal) -> BoxFuture<'static, Result<Applied, AgreementError>> {
            let refusal = AgreementError::Unavailable("only reads are counted".to_owned());
            Box::pin(async move { Err(refusal) })
        }

        fn read(&self) -> BoxFuture<'static, Answer> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(Arc::default()) })
        }

        fn renew_leases(&self, _: Vec<LeaseId>) -> BoxFuture<'static, Result<(), AgreementError>> {
            Box::pin(async { Ok(()) })
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn streams_that_open_together_share_a_read() {
        let agreement = Arc::new(Counting::default());
        let (gate, task) = Gate::new(agreement.clone(), CancellationToken::new());
        let opens = async {
            gate.read().await.unwrap();
            let many = join_all((0..200).map(|_| gate.read())).await;
            assert!(many.iter().all(Result::is_ok));
        };
        tokio::select! {
            () = task => panic!("the gate's task ended"),
            () = opens => {}
        }
        assert_eq!(agreement.reads.load(Ordering::SeqCst), 2);
    }
}
