//! What the admin API passes on to the parts that know: objects, the cluster, xDS clients.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tonic::{Status, async_trait};
use xds_api::envoy::service::status::v3::ClientConfig;
use xds_api::maille::v1::{
    ApplyRequest, ApplyResponse, AwaitLiveResponse, DeleteRequest, DeleteResponse, GetRequest,
    GetResponse, LoadsRequest, LoadsResponse, MembersResponse, Preview, ProxiesResponse,
    RemoveMemberRequest, RemoveMemberResponse, SnapshotChunk, StatusResponse,
    TransferLeadershipRequest, TransferLeadershipResponse,
};

use super::Author;
use crate::model::{Command, State};

/// A snapshot file, piece by piece.
pub type ChunkStream = Pin<Box<dyn Stream<Item = Result<SnapshotChunk, Status>> + Send>>;

/// Which clients are asked for, by their nodes: `<namespace>/<workload>`.
pub type Choice = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Whether something of a namespace may be shown to whoever asks.
pub type Sight = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The mesh's objects.
#[async_trait]
pub trait Objects: Debug + Send + Sync + 'static {
    /// Writes objects, all or none.
    async fn apply(&self, author: &Author, request: ApplyRequest) -> Result<ApplyResponse, Status>;
    /// Reads objects.
    async fn get(&self, request: GetRequest) -> Result<GetResponse, Status>;
    /// Deletes objects, all or none.
    async fn delete(
        &self,
        author: &Author,
        request: DeleteRequest,
    ) -> Result<DeleteResponse, Status>;
}

/// The Raft cluster.
#[async_trait]
pub trait ClusterCalls: Debug + Send + Sync + 'static {
    /// This controller's view, and the state that it was made from. `sealed`, `streams`, `objects` and `resource_hashes` are
    /// filled in by others.
    async fn status(&self) -> Result<(StatusResponse, Arc<State>), Status>;
    /// Who belongs to it.
    async fn members(&self) -> Result<MembersResponse, Status>;
    /// Takes a member out.
    async fn remove_member(
        &self,
        author: &Author,
        request: RemoveMemberRequest,
    ) -> Result<RemoveMemberResponse, Status>;
    /// Hands leadership over.
    async fn transfer_leadership(
        &self,
        author: &Author,
        request: TransferLeadershipRequest,
    ) -> Result<TransferLeadershipResponse, Status>;
    /// A consistent snapshot.
    async fn save_snapshot(&self) -> Result<ChunkStream, Status>;
}

/// xDS clients of all controllers.
#[async_trait]
pub trait Clients: Debug + Send + Sync + 'static {
    /// All that are known.
    async fn proxies(&self) -> Result<ProxiesResponse, Status>;
    /// Waits until every live client has acknowledged all up to a mesh index, one has refused something, or the time is up.
    /// Of those behind whom the caller does not see, there is only a count.
    async fn await_live(
        &self,
        index: u64,
        limit: Duration,
        sees: Choice,
    ) -> Result<AwaitLiveResponse, Status>;
    /// What a command would send to whom, tried on a state of at least this mesh index.
    async fn preview(&self, command: Command, index: u64) -> Result<Preview, Status>;
    /// What the clients of this controller were sent and said to it, with the resources themselves if `contents`; and how many streams did not answer.
    async fn client_status(
        &self,
        choice: Choice,
        contents: bool,
    ) -> Result<(Vec<ClientConfig>, u32), Status>;
    /// What clients reported of their calls to any controller, as far as whoever asks may see it.
    async fn loads(&self, request: LoadsRequest, sees: Sight) -> Result<LoadsResponse, Status>;
    /// Open streams at this controller.
    fn streams(&self) -> u32;
    /// SHA-256 over name and version of each native resource of this state, by type, hex.
    async fn resource_hashes(&self, state: &Arc<State>) -> BTreeMap<String, String>;
}
