//! What the parts above consensus need of it: the agreed state, writes, and who leads.
//!
//! Raft stands behind this trait, so that `identity`, `registration` and `admin` are tested against a state alone.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tonic::Status;
use xds_api::maille::v1::{LeaseId, LoadsRequest, LoadsResponse, Preview, Proxy};

use crate::model::{Applied, Command, Proposal, Refusal, RefusalCode, State};

/// A write or a read did not come through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// It may or may not have happened. The same `(client, sequence)` can be proposed again.
    #[error("{0}; the write may have happened or not")]
    Unknown(String),
    /// It did not happen: there is no leader, no quorum, no room.
    #[error("{0}")]
    Unavailable(String),
}

/// The cluster, as seen from one controller.
pub trait Agreement: fmt::Debug + Send + Sync + 'static {
    /// The state that this controller has applied, as it changes.
    fn state(&self) -> watch::Receiver<Arc<State>>;

    /// Whether this controller leads, as it changes.
    fn leads(&self) -> watch::Receiver<bool>;

    /// Writes, through whichever controller leads. `Ok` where it was agreed on; the answer may still be a refusal.
    fn propose(&self, proposal: Proposal) -> BoxFuture<'static, Result<Applied, AgreementError>>;

    /// The state, at least as new as everything that was acknowledged to anybody before the call.
    fn read(&self) -> BoxFuture<'static, Result<Arc<State>, AgreementError>>;

    /// Tells the controller that leads which leases were renewed here. Nothing of it is written.
    fn renew_leases(&self, leases: Vec<LeaseId>) -> BoxFuture<'static, Result<(), AgreementError>>;
}

/// What only the controller that leads may write: nobody passes it on.
pub trait Leading: Agreement {
    /// The term in which this controller leads, while it does.
    fn term(&self) -> watch::Receiver<Option<u64>>;

    /// Writes as the leader, or not at all.
    fn propose_leading(
        &self,
        proposal: Proposal,
    ) -> BoxFuture<'static, Result<Applied, AgreementError>>;
}

/// Takes renewals that other controllers passed on to this one, while it leads.
pub trait LeaseSink: fmt::Debug + Send + Sync + 'static {
    /// Renews what is known and gives back the rest.
    fn renew(&self, leases: &[LeaseId]) -> Vec<LeaseId>;
}

/// Answers other controllers' question which xDS clients are here.
pub trait RosterSource: fmt::Debug + Send + Sync + 'static {
    /// Every client that has a stream at this controller.
    fn proxies(&self) -> Vec<Proxy>;

    /// How many streams there are.
    fn streams(&self) -> usize;

    /// What a command would send to them, tried on a state of at least this mesh index.
    fn preview(&self, command: Command, index: u64) -> BoxFuture<'static, Result<Preview, Status>>;

    /// What they have reported of their calls.
    fn loads(&self, request: &LoadsRequest) -> Result<LoadsResponse, Status>;
}

/// The other controllers, for what is not in the log.
pub trait Peers: fmt::Debug + Send + Sync + 'static {
    /// Every client that has a stream at another controller; of those that do not answer within a second, nothing.
    fn proxies(&self) -> BoxFuture<'static, Vec<Proxy>>;

    /// How many streams each of them has that answers within a second.
    fn streams(&self) -> BoxFuture<'static, Vec<u64>>;

    /// What a command would send to the clients of every other controller, by the controllers' names.
    fn preview(
        &self,
        command: Command,
        index: u64,
    ) -> BoxFuture<'static, Vec<(String, Result<Preview, Status>)>>;

    /// What clients have reported of their calls to every other controller, by the controllers' names.
    fn loads(
        &self,
        request: LoadsRequest,
    ) -> BoxFuture<'static, Vec<(String, Result<LoadsResponse, Status>)>>;
}

impl From<AgreementError> for Status {
    fn from(failure: AgreementError) -> Self {
        Self::unavailable(failure.to_string())
    }
}

/// A refusal as callers over gRPC see it.
pub fn refusal_status(refusal: &Refusal) -> Status {
    let text = refusal.message.clone();
    match refusal.code() {
        RefusalCode::Invalid | RefusalCode::Relations => Status::invalid_argument(text),
        RefusalCode::NotFound => Status::not_found(text),
        RefusalCode::Conflict
        | RefusalCode::TokenUsed
        | RefusalCode::TokenExpired
        | RefusalCode::Superseded => Status::failed_precondition(text),
        RefusalCode::Exhausted => Status::resource_exhausted(text),
        RefusalCode::OutOfSequence => Status::aborted(text),
    }
}

#[cfg(test)]
pub(crate) mod alone {
    //! A cluster of one that agrees with itself at once.

    use std::sync::Mutex;

    use super::*;
    use crate::model::Command;
    use crate::model::command::Initialize;

    /// Applies every proposal under a lock.
    #[derive(Debug)]
    pub(crate) struct Alone {
        state: watch::Sender<Arc<State>>,
        leads: watch::Sender<bool>,
        term: watch::Sender<Option<u64>>,
        entry: Mutex<u64>,
        /// When set, what `propose` answers instead.
        refuse: Mutex<Option<AgreementError>>,
        /// Every entry that was written.
        writes: Mutex<Vec<Proposal>>,
        renewed: Mutex<Vec<LeaseId>>,
    }

    impl Alone {
        /// An initialized cluster of the trust domain `mesh.local`.
        pub(crate) fn new() -> Arc<Self> {
            let alone = Self {
                state: watch::Sender::new(Arc::default()),
                leads: watch::Sender::new(true),
                term: watch::Sender::new(Some(1)),
                entry: Mutex::new(0),
                refuse: Mutex::new(None),
                writes: Mutex::new(Vec::new()),
                renewed: Mutex::new(Vec::new()),
            };
            alone.apply(&Proposal {
                author: "test".to_owned(),
                client: String::new(),
                sequence: 0,
                time_millis: now_millis(),
                command: Command::Initialize(Initialize {
                    cluster_id: "0c6a3a3e-6b0c-4b8f-9a54-000000000001".to_owned(),
                    trust_domain: "mesh.local".to_owned(),
                    incarnation: 1,
                }),
            });
            Arc::new(alone)
        }

        pub(crate) fn apply(&self, proposal: &Proposal) -> Applied {
            let mut entry = self.entry.lock().expect("not poisoned");
            *entry += 1;
            self.writes
                .lock()
                .expect("not poisoned")
                .push(proposal.clone());
            let mut state = State::clone(&self.state.borrow());
            let applied = state.apply(*entry, proposal);
            self.state.send_replace(Arc::new(state));
            applied
        }

        pub(crate) fn refuse(&self, with: Option<AgreementError>) {
            *self.refuse.lock().expect("not poisoned") = with;
        }

        pub(crate) fn writes(&self) -> Vec<Proposal> {
            self.writes.lock().expect("not poisoned").clone()
        }

        pub(crate) fn renewed(&self) -> Vec<LeaseId> {
            self.renewed.lock().expect("not poisoned").clone()
        }

        pub(crate) fn now(&self) -> Arc<State> {
            self.state.borrow().clone()
        }
    }

    pub(crate) fn now_millis() -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since
            .expect("after 1970")
            .as_millis()
            .try_into()
            .expect("fits for half a billion years")
    }

    impl Leading for Alone {
        fn term(&self) -> watch::Receiver<Option<u64>> {
            self.term.subscribe()
        }

        fn propose_leading(
            &self,
            proposal: Proposal,
        ) -> BoxFuture<'static, Result<Applied, AgreementError>> {
            self.propose(proposal)
        }
    }

    impl Agreement for Alone {
        fn state(&self) -> watch::Receiver<Arc<State>> {
            self.state.subscribe()
        }

        fn leads(&self) -> watch::Receiver<bool> {
            self.leads.subscribe()
        }

        fn propose(
            &self,
            mut proposal: Proposal,
        ) -> BoxFuture<'static, Result<Applied, AgreementError>> {
            let refused = self.refuse.lock().expect("not poisoned").clone();
            let answer = match refused {
                Some(refused) => Err(refused),
                None => {
                    proposal.time_millis = now_millis();
                    Ok(self.apply(&proposal))
                }
            };
            Box::pin(async move {
                // A real log takes a while: others may queue up behind.
                tokio::task::yield_now().await;
                answer
            })
        }

        fn read(&self) -> BoxFuture<'static, Result<Arc<State>, AgreementError>> {
            let state = self.now();
            Box::pin(async move { Ok(state) })
        }

        fn renew_leases(
            &self,
            leases: Vec<LeaseId>,
        ) -> BoxFuture<'static, Result<(), AgreementError>> {
            self.renewed.lock().expect("not poisoned").extend(leases);
            Box::pin(async { Ok(()) })
        }
    }
}
