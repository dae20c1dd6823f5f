//! Questions to every stream of this controller. Each answers from its own session, between two steps of its work.

use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, mpsc, watch};
use tokio::time::Instant;

use crate::xds::cache::Cache;
use crate::xds::roster::Entry;
use crate::xds::session::Session;

/// How long streams may take to answer. One that is in the middle of writing to a slow client does not.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A stream that is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Respondent<'a> {
    pub(super) cache: &'a Cache,
    pub(super) session: &'a Session,
    pub(super) entry: &'a Entry,
    /// The stream is of one type.
    pub(super) alone: bool,
}

/// What every stream is asked. A stream holds it no longer than it takes to answer.
pub(super) trait Question: Debug + Send + Sync {
    /// Lets a stream answer.
    fn put_to(&self, stream: Respondent<'_>);
}

/// Where streams hear questions.
pub(super) type Questions = watch::Receiver<Option<Weak<dyn Question>>>;

/// Asks, one question at a time.
#[derive(Debug)]
pub(super) struct Asker {
    questions: watch::Sender<Option<Weak<dyn Question>>>,
    turn: Mutex<()>,
}

/// The right to ask, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    asker: &'a Asker,
    _turn: MutexGuard<'a, ()>,
}

impl Asker {
    pub(super) fn new() -> Self {
        Self {
            questions: watch::Sender::new(None),
            turn: Mutex::new(()),
        }
    }

    pub(super) fn subscribe(&self) -> Questions {
        self.questions.subscribe()
    }

    /// Waits until nobody else asks.
    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn {
            asker: self,
            _turn: self.turn.lock().await,
        }
    }
}

impl Turn<'_> {
    /// Asks every stream what `question` makes of the way back, and takes in the answers until all are there or the time is up. Answers how many streams were silent.
    pub(super) async fn ask<A, Q: Question + 'static>(
        &self,
        question: impl FnOnce(mpsc::Sender<A>) -> Q,
        mut take: impl FnMut(A),
    ) -> u32 {
        let questions = &self.asker.questions;
        let asked = questions.receiver_count();
        // There is room for every stream that was asked; one that came since is not missed.
        let (answers, mut inbox) = mpsc::channel(asked.max(1));
        let question: Arc<dyn Question> = Arc::new(question(answers));
        questions.send_replace(Some(Arc::downgrade(&question)));
        let deadline = Instant::now() + ANSWER_LIMIT;
        for answered in 0..asked {
            match tokio::time::timeout_at(deadline, inbox.recv()).await {
                Ok(Some(answer)) => take(answer),
                Ok(None) | Err(_) => return u32::try_from(asked - answered).unwrap_or(u32::MAX),
            }
        }
        0
    }
}
