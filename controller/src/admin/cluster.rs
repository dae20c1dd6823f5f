//! The cluster's calls: status, members, handing over, snapshots.

use std::sync::Arc;

use futures_util::StreamExt;
use tonic::{Status, async_trait};
use xds_api::maille::v1::{
    Member, MembersResponse, ReadState, RemoveMemberRequest, RemoveMemberResponse, SnapshotChunk,
    StatusResponse, TransferLeadershipRequest, TransferLeadershipResponse,
};

use super::Author;
use super::families::{ChunkStream, ClusterCalls};
use crate::model::State;
use crate::raft::{Consistency, MemberStatus, MembersError, Raft};
use crate::store::snapshot::SnapshotFile;

/// Bytes of a snapshot in one message.
const PIECE: usize = 256 << 10;

/// Answers the cluster's calls from Raft.
#[derive(Debug, Clone)]
pub struct Cluster {
    raft: Raft,
    controller: Arc<str>,
}

impl Cluster {
    /// The calls of the controller with this name.
    pub fn new(raft: Raft, controller: &str) -> Self {
        Self {
            raft,
            controller: Arc::from(controller),
        }
    }

    /// What this controller has applied, with its age: these calls answer without a quorum.
    async fn view(&self) -> Result<(ReadState, Arc<State>), Status> {
        let read = self.raft.read(Consistency::Stale).await?;
        let state = ReadState {
            index: read.state.mesh().index(),
            incarnation: read.state.mesh().incarnation(),
            age_millis: u64::try_from(read.age.as_millis()).unwrap_or(u64::MAX),
            controller: self.controller.to_string(),
        };
        Ok((state, read.state))
    }
}

#[async_trait]
impl ClusterCalls for Cluster {
    async fn status(&self) -> Result<(StatusResponse, Arc<State>), Status> {
        let (view, state) = self.view().await?;
        let raft = self.raft.status();
        let status = StatusResponse {
            state: Some(view),
            cluster_id: state.cluster_id().to_owned(),
            trust_domain: state.mesh().trust_domain().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            feature_level: state.mesh().level(),
            leader: raft.leader,
            term: raft.term,
            last_log: raft.last_log,
            committed: raft.committed,
            applied: raft.applied,
            snapshot: raft.snapshot,
            purged: raft.purged,
            mesh_hash: hex::encode(state.hash()),
            disk_bytes: raft.disk_bytes,
            ..StatusResponse::default()
        };
        Ok((status, state))
    }

    async fn members(&self) -> Result<MembersResponse, Status> {
        let (view, _) = self.view().await?;
        Ok(MembersResponse {
            state: Some(view),
            members: self.raft.members().into_iter().map(described).collect(),
        })
    }

    async fn remove_member(
        &self,
        author: &Author,
        request: RemoveMemberRequest,
    ) -> Result<RemoveMemberResponse, Status> {
        let id = self
            .raft
            .remove_member(&request.member)
            .await
            .map_err(refused)?;
        tracing::info!(member = request.member, id, %author, "removed a member");
        Ok(RemoveMemberResponse { id })
    }

    async fn transfer_leadership(
        &self,
        author: &Author,
        request: TransferLeadershipRequest,
    ) -> Result<TransferLeadershipResponse, Status> {
        let to = (!request.member.is_empty()).then_some(request.member.as_str());
        let leader = self.raft.transfer_leadership(to).await.map_err(refused)?;
        tracing::info!(leader, %author, "leadership was handed over");
        Ok(TransferLeadershipResponse { leader })
    }

    async fn save_snapshot(&self) -> Result<ChunkStream, Status> {
        let file = self.raft.save_snapshot().await?;
        Ok(pieces(file).boxed())
    }
}

fn described(status: MemberStatus) -> Member {
    let member = status.member;
    Member {
        id: status.id,
        name: member.name,
        peer_address: member.peer_address,
        xds_address: member.xds_address,
        admin_address: member.admin_address,
        voter: status.is_voter,
        leader: status.is_leader,
        reachable: status.is_reachable,
        lag: status.lag,
        version: member.version,
        min_level: member.min_level,
        max_level: member.max_level,
    }
}

fn refused(error: MembersError) -> Status {
    let text = error.to_string();
    match error {
        MembersError::NotFound { .. } => Status::not_found(text),
        MembersError::Refused(_) => Status::failed_precondition(text),
        MembersError::Agreement(error) => error.into(),
    }
}

/// The file in pieces; a failure ends the stream with its text.
fn pieces(
    file: SnapshotFile,
) -> impl futures_util::Stream<Item = Result<SnapshotChunk, Status>> + Send + 'static {
    futures_util::stream::try_unfold((file, 0u64), |(file, offset)| async move {
        let reader = file.clone();
        let read = tokio::task::spawn_blocking(move || reader.read_raw(offset, PIECE)).await;
        let data = read.map_err(|error| Status::internal(error.to_string()))?;
        let data = data.map_err(|error| Status::internal(error.full_text()))?;
        let next = offset + data.len() as u64;
        Ok((!data.is_empty()).then(|| (SnapshotChunk { data }, (file, next))))
    })
}
