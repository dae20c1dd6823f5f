//! Reading as new as asked for: by the leader's lease, by a quorum, or whatever is here.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::Instant;
use xds_api::maille::v1 as proto;

use super::confirm::own_vote;
use super::core::Core;
use super::propose::Refused;
use super::types::NodeId;
use super::{PAUSE, Raft};
use crate::agreement::AgreementError;
use crate::model::State;

/// How long a read may take, an election included.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// How new an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// At least as new as every write that was answered before, by the leader's lease: clocks must run at about the same speed, and a leader
    /// whose process stood still may give one last answer of before.
    Default,
    /// The same without those conditions: a majority has confirmed the leader after the question.
    Consistent,
    /// Whatever this controller has applied.
    Stale,
}

/// A state and how old it may be.
#[derive(Debug, Clone)]
pub struct Read {
    /// The state.
    pub state: Arc<State>,
    /// How long ago this controller last heard of a leader; zero where the answer is confirmed.
    pub age: Duration,
}

impl Raft {
    /// Reads the state.
    pub async fn read(&self, consistency: Consistency) -> Result<Read, AgreementError> {
        if consistency == Consistency::Stale {
            return Ok(Read {
                state: self.0.state.borrow().clone(),
                age: self.silence(),
            });
        }
        let core = self.require_core()?;
        let deadline = Instant::now() + READ_LIMIT;
        let by_quorum = consistency == Consistency::Consistent;
        loop {
            let leader = self.find_leader(deadline).await?;
            let index = match leader == core.node {
                true => self.read_index(&core, by_quorum).await,
                false => self.ask_index(&core, leader, by_quorum, deadline).await,
            };
            match index {
                Ok(index) => return self.wait_applied(index, deadline).await,
                Err(refused) if Instant::now() + PAUSE >= deadline => return Err(refused.into()),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Waits until this controller has applied the entry.
    async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<Read, AgreementError> {
        let mut states = self.state();
        let found = tokio::time::timeout_at(
            deadline,
            states.wait_for(|state| state.log_index() >= index),
        )
        .await;
        match found {
            Ok(Ok(state)) => Ok(Read {
                state: state.clone(),
                age: Duration::ZERO,
            }),
            _ => Err(AgreementError::Unavailable(format!(
                "this controller lags: it has not applied entry {index} in time; ask another, or read with `stale`"
            ))),
        }
    }

    async fn ask_index(
        &self,
        core: &Core,
        leader: NodeId,
        quorum: bool,
        deadline: Instant,
    ) -> Result<u64, Refused> {
        let Some((mut client, envelope)) = self.within(|| core.call(leader)) else {
            return Err(Refused::NotLeader);
        };
        let mut request = tonic::Request::new(proto::ReadIndexRequest {
            envelope: Some(envelope),
            quorum,
        });
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let answer = client.read_index(request).await;
        let answer = answer.map_err(|status| {
            Refused::Unavailable(format!("the leader did not answer: {}", status.message()))
        })?;
        match answer.into_inner().answer {
            Some(proto::read_index_response::Answer::LogIndex(index)) => Ok(index),
            _ => Err(Refused::NotLeader),
        }
    }

    /// How long ago this controller last heard of a leader.
    fn silence(&self) -> Duration {
        let Some(core) = self.core() else {
            return Duration::ZERO;
        };
        super::status::silence(&core)
    }

    /// On the leader: what must be applied before a read is as new as asked for.
    pub(super) async fn read_index(&self, core: &Core, quorum: bool) -> Result<u64, Refused> {
        if !quorum {
            return linearized(core, ReadPolicy::LeaseRead).await;
        }
        let vote = own_vote(core).await?;
        // Which of the two answers is a matter of time only: that no other leads is asked for below.
        let index = match linearized(core, ReadPolicy::LeaseRead).await {
            Err(Refused::Unavailable(_)) => linearized(core, ReadPolicy::ReadIndex).await?,
            answer => answer?,
        };
        self.confirm(core, vote).await?;
        Ok(index)
    }
}

async fn linearized(core: &Core, policy: ReadPolicy) -> Result<u64, Refused> {
    match core.engine.get_read_linearizer(policy).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
            Err(Refused::NotLeader)
        }
        Err(RaftError::APIError(error)) => Err(Refused::Unavailable(error.to_string())),
        Err(RaftError::Fatal(fatal)) => Err(Refused::Unavailable(fatal.to_string())),
    }
}
