//! What the other controllers know of their xDS clients.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tonic::Status;
use xds_api::maille::v1 as proto;

use super::Raft;
use super::core::Core;
use super::types::NodeId;
use crate::model::Command;

/// How long another controller may take to name its clients.
const ROSTER_LIMIT: Duration = Duration::from_secs(1);
/// How long another controller may take to say what was reported to it: it has that in memory.
const LOADS_LIMIT: Duration = Duration::from_secs(2);
/// How long another controller may take to find out what a change would send: it waits for its own state and for its streams, two seconds each.
const PREVIEW_LIMIT: Duration = Duration::from_secs(5);

impl Raft {
    /// The xDS clients of every other controller that answers.
    pub(super) async fn ask_rosters(&self) -> Vec<proto::Proxy> {
        let others = self.others();
        let rosters = others.map(|(core, id)| self.roster_of(core, id, false));
        let rosters = futures_util::future::join_all(rosters).await;
        let proxies = rosters.into_iter().flatten().flat_map(|one| one.proxies);
        proxies
            .filter_map(|bytes| proto::Proxy::decode(bytes).ok())
            .collect()
    }

    /// What a command would send to the clients of every other controller, by the controllers' names.
    pub(super) async fn ask_previews(
        &self,
        command: &Command,
        index: u64,
    ) -> Vec<(String, Result<proto::Preview, Status>)> {
        let bytes = command.encode();
        let previews = self
            .named_others()
            .into_iter()
            .map(async |(name, core, id)| {
                let asked = self.preview_of(core, id, bytes.clone(), index).await;
                (name, asked)
            });
        futures_util::future::join_all(previews).await
    }

    /// What clients reported of their calls to every other controller, by the controllers' names.
    pub(super) async fn ask_loads(
        &self,
        request: &proto::LoadsRequest,
    ) -> Vec<(String, Result<proto::LoadsResponse, Status>)> {
        let bytes = bytes::Bytes::from(request.encode_to_vec());
        let answers = self
            .named_others()
            .into_iter()
            .map(async |(name, core, id)| {
                let asked = self.loads_of(core, id, bytes.clone()).await;
                (name, asked)
            });
        futures_util::future::join_all(answers).await
    }

    /// Every other controller, with its name.
    fn named_others(&self) -> Vec<(String, Arc<Core>, NodeId)> {
        let state = self.state().borrow().clone();
        let name = |id: NodeId| match state.members().get(&id) {
            Some(member) => member.name.clone(),
            None => format!("node {id}"),
        };
        let others = self.others();
        others.map(|(core, id)| (name(id), core, id)).collect()
    }

    fn others(&self) -> impl Iterator<Item = (Arc<Core>, NodeId)> {
        let core = self.core().into_iter();
        core.flat_map(|core| {
            let ids: Vec<NodeId> = core.peers().into_keys().collect();
            let others = ids.into_iter().filter(|id| *id != core.node);
            others.map(|id| (core.clone(), id)).collect::<Vec<_>>()
        })
    }

    /// How many xDS streams each other controller that answers has.
    pub(super) async fn ask_streams(&self) -> Vec<u64> {
        let others = self.others();
        let counts = others.map(|(core, id)| self.roster_of(core, id, true));
        let counts = futures_util::future::join_all(counts).await;
        counts
            .into_iter()
            .flatten()
            .map(|one| one.streams)
            .collect()
    }

    async fn roster_of(
        &self,
        core: Arc<Core>,
        node: NodeId,
        count_only: bool,
    ) -> Option<proto::RosterResponse> {
        let (mut client, envelope) = self.within(|| core.call(node))?;
        let mut request = tonic::Request::new(proto::RosterRequest {
            envelope: Some(envelope),
            count_only,
        });
        request.set_timeout(ROSTER_LIMIT);
        match client.roster(request).await {
            Ok(answer) => Some(answer.into_inner()),
            Err(status) => {
                tracing::debug!(node, %status, "no roster");
                None
            }
        }
    }

    async fn preview_of(
        &self,
        core: Arc<Core>,
        node: NodeId,
        command: bytes::Bytes,
        index: u64,
    ) -> Result<proto::Preview, Status> {
        let called = self.within(|| core.call(node));
        let (mut client, envelope) = called.ok_or_else(gone)?;
        let mut request = tonic::Request::new(proto::PreviewHereRequest {
            envelope: Some(envelope),
            command,
            index,
        });
        request.set_timeout(PREVIEW_LIMIT);
        let answer = client.preview_here(request).await?.into_inner();
        proto::Preview::decode(answer.preview).map_err(unreadable)
    }

    async fn loads_of(
        &self,
        core: Arc<Core>,
        node: NodeId,
        request: bytes::Bytes,
    ) -> Result<proto::LoadsResponse, Status> {
        let called = self.within(|| core.call(node));
        let (mut client, envelope) = called.ok_or_else(gone)?;
        let mut request = tonic::Request::new(proto::LoadsHereRequest {
            envelope: Some(envelope),
            request,
        });
        request.set_timeout(LOADS_LIMIT);
        let answer = client.loads_here(request).await?.into_inner();
        proto::LoadsResponse::decode(answer.loads).map_err(unreadable)
    }
}

fn gone() -> Status {
    Status::unavailable("it is no member any more")
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives it away")]
fn unreadable(error: prost::DecodeError) -> Status {
    Status::internal(format!("its answer cannot be read: {error}"))
}
