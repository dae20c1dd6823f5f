//! The peer port: what other controllers ask.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use openraft::storage::Snapshot;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status, Streaming};
use xds_api::maille::v1 as proto;
use xds_api::maille::v1::peer_server::{Peer, PeerServer};

use super::core::Core;
use super::machine::SnapshotData;
use super::network::LARGEST_MESSAGE;
use super::propose::Refused;
use super::types::{NodeId, Types};
use super::wire::{self, WireError};
use super::{Raft, WRITE_LIMIT, confirm};
use crate::agreement::RosterSource;
use crate::model::{Command, Proposal};
use crate::peer_ca::PeerIdentity;
use crate::store::snapshot::Receiver;
use crate::tls::Caller;

/// Records in one answer to a request for old issuance records.
const RECORDS_PER_PART: usize = 256;

/// Serves the peers' calls.
#[derive(Debug, Clone)]
pub(super) struct Service {
    raft: Raft,
}

/// The server with its limits.
pub(super) fn server(raft: Raft) -> Router {
    let service = PeerServer::new(Service { raft })
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(8 << 20)
        .add_service(service)
}

fn unreadable(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn message(payload: Bytes) -> Response<proto::RaftMessage> {
    Response::new(proto::RaftMessage {
        envelope: None,
        payload,
    })
}

impl Service {
    fn core(&self) -> Result<Arc<Core>, Status> {
        self.raft
            .core()
            .ok_or_else(|| Status::unavailable("this controller is in no cluster yet"))
    }

    /// The running member, if the call is meant for it and comes from whom it says.
    fn member(
        &self,
        envelope: Option<&proto::Envelope>,
        caller: Option<&Caller>,
    ) -> Result<Arc<Core>, Status> {
        let core = self.core()?;
        let envelope =
            envelope.ok_or_else(|| Status::invalid_argument("the call has no envelope"))?;
        check_envelope(envelope, &core, caller).map_err(Status::failed_precondition)?;
        Ok(core)
    }

    fn voting_member(&self, request: &Request<proto::RaftMessage>) -> Result<Arc<Core>, Status> {
        let core = self.member(
            request.get_ref().envelope.as_ref(),
            request.extensions().get(),
        )?;
        if !core.may_vote() {
            return Err(Status::unavailable(
                "this controller has just restarted; a promise of its own may still hold",
            ));
        }
        Ok(core)
    }
}

/// An address may belong to somebody else by now, and a wiped directory is another voter than the one it replaces.
fn check_envelope(
    envelope: &proto::Envelope,
    core: &Core,
    caller: Option<&Caller>,
) -> Result<(), String> {
    let sender = &core.network.sender;
    if envelope.format != wire::FORMAT {
        return Err(format!(
            "format {} of controllers' calls is unknown; upgrade this controller",
            envelope.format
        ));
    }
    if envelope.cluster_id != sender.cluster {
        return Err(format!(
            "this controller is in cluster {}, not {}",
            sender.cluster, envelope.cluster_id
        ));
    }
    if envelope.to_node != core.node {
        return Err(format!(
            "this controller is node {}, not {}",
            core.node, envelope.to_node
        ));
    }
    if !envelope.to_directory.is_empty() && envelope.to_directory != core.directory {
        return Err(format!(
            "this controller's directory is {}, not {}",
            core.directory, envelope.to_directory
        ));
    }
    let claimed = &envelope.from_directory;
    let known = core.peer(envelope.from_node).map(|peer| peer.directory);
    if known.is_some_and(|known| known != *claimed) {
        return Err(format!(
            "node {} has another directory than {claimed}",
            envelope.from_node
        ));
    }
    let proved = caller
        .and_then(|caller| caller.leaf.as_deref())
        .and_then(PeerIdentity::of);
    match proved {
        Some(proved) if proved.directory == *claimed => Ok(()),
        Some(proved) => Err(format!(
            "the certificate is of directory {}, the call says {claimed}",
            proved.directory
        )),
        None => Err("the call comes without a controller's certificate".into()),
    }
}

#[tonic::async_trait]
impl Peer for Service {
    type AppendStream = BoxStream<'static, Result<proto::RaftMessage, Status>>;
    type FetchSegmentStream = BoxStream<'static, Result<proto::SnapshotPart, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<proto::RaftMessage>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut messages = request.into_inner();
        let first = messages
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("an empty stream"))?;
        let core = self.member(first.envelope.as_ref(), caller.as_ref())?;
        let from = first.envelope.map_or(0, |envelope| envelope.from_node);
        let first = wire::decode_append(first.payload).map_err(unreadable)?;
        let heard = core.clone();
        let entries = futures_util::stream::iter([first])
            .chain(readable(messages, core.clone(), from))
            .inspect(move |_| heard.hear());
        let answers = core.engine.stream_append(entries);
        let answers = answers.map(|answer| match answer {
            Ok(answer) => Ok(proto::RaftMessage {
                envelope: None,
                payload: wire::encode_appended(&answer),
            }),
            Err(fatal) => Err(Status::unavailable(fatal.to_string())),
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn vote(
        &self,
        request: Request<proto::RaftMessage>,
    ) -> Result<Response<proto::RaftMessage>, Status> {
        let core = self.voting_member(&request)?;
        let vote = wire::decode_vote(request.into_inner().payload).map_err(unreadable)?;
        let answer = core
            .engine
            .vote(vote)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(message(wire::encode_voted(&answer)))
    }

    async fn pre_vote(
        &self,
        request: Request<proto::RaftMessage>,
    ) -> Result<Response<proto::RaftMessage>, Status> {
        let core = self.voting_member(&request)?;
        let vote = wire::decode_vote(request.into_inner().payload).map_err(unreadable)?;
        let answer = core
            .engine
            .pre_vote(vote)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(message(wire::encode_voted(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::RaftMessage>,
    ) -> Result<Response<proto::RaftMessage>, Status> {
        let core = self.member(
            request.get_ref().envelope.as_ref(),
            request.extensions().get(),
        )?;
        let payload = request.into_inner().payload;
        if wire::kind_of(&payload) == Some(wire::kind::WISH) {
            let wish = wire::decode_wish(payload.clone()).map_err(unreadable)?;
            let fulfilled = self.raft.fulfil(&core, wish).await;
            fulfilled.map_err(|error| Status::failed_precondition(error.to_string()))?;
            return Ok(message(payload));
        }
        let transfer = wire::decode_transfer(payload).map_err(unreadable)?;
        let answer = core.engine.handle_transfer_leader(transfer).await;
        let answer = answer.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        Ok(message(wire::encode_transferred(&answer)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotPart>>,
    ) -> Result<Response<proto::RaftMessage>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut parts = request.into_inner();
        let first = parts
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("an empty stream"))?;
        let core = self.member(first.envelope.as_ref(), caller.as_ref())?;
        let (vote, meta) = wire::decode_snapshot(first.header).map_err(unreadable)?;
        let failed = |error: crate::store::StoreError| Status::internal(error.full_text());
        let mut receiver = core.stores.snapshots.receive().map_err(failed)?;
        while let Some(part) = parts.message().await? {
            receiver = write_piece(receiver, part.data).await?;
        }
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotData::Received(receiver.finish().map_err(failed)?),
        };
        let answer = core.engine.install_full_snapshot(vote, snapshot).await;
        let answer = answer.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        Ok(message(wire::encode_installed(&answer)))
    }

    async fn forward(
        &self,
        request: Request<proto::ForwardRequest>,
    ) -> Result<Response<proto::ForwardResponse>, Status> {
        let core = self.member(
            request.get_ref().envelope.as_ref(),
            request.extensions().get(),
        )?;
        let forwarded = request.into_inner();
        let from = forwarded
            .envelope
            .as_ref()
            .map_or(0, |envelope| envelope.from_node);
        if core.peer(from).is_none() {
            return Err(Status::failed_precondition(format!(
                "node {from} is no member of this cluster any more"
            )));
        }
        let proposal = Proposal::decode(forwarded.proposal)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let limit = WRITE_LIMIT.min(std::time::Duration::from_millis(
            forwarded.timeout_millis.into(),
        ));
        let deadline = tokio::time::Instant::now() + limit;
        let answer = match core.engine.is_leader() {
            true => self.raft.propose_here(proposal, deadline).await,
            false => Err(Refused::NotLeader),
        };
        let answer = match answer {
            Ok(applied) => proto::forward_response::Answer::Applied(applied.encode()),
            Err(Refused::NotLeader) => {
                proto::forward_response::Answer::NotLeader(not_leader(&core))
            }
            Err(Refused::Unavailable(text)) => return Err(Status::resource_exhausted(text)),
            Err(Refused::Unknown(text)) => return Err(Status::unavailable(text)),
        };
        Ok(Response::new(proto::ForwardResponse {
            answer: Some(answer),
        }))
    }

    async fn read_index(
        &self,
        request: Request<proto::ReadIndexRequest>,
    ) -> Result<Response<proto::ReadIndexResponse>, Status> {
        let core = self.member(
            request.get_ref().envelope.as_ref(),
            request.extensions().get(),
        )?;
        let answer = match self.raft.read_index(&core, request.get_ref().quorum).await {
            Ok(index) => proto::read_index_response::Answer::LogIndex(index),
            Err(Refused::NotLeader) => {
                proto::read_index_response::Answer::NotLeader(not_leader(&core))
            }
            Err(Refused::Unavailable(text) | Refused::Unknown(text)) => {
                return Err(Status::unavailable(text));
            }
        };
        Ok(Response::new(proto::ReadIndexResponse {
            answer: Some(answer),
        }))
    }

    async fn confirm(
        &self,
        request: Request<proto::ConfirmRequest>,
    ) -> Result<Response<proto::ConfirmResponse>, Status> {
        let core = self.member(
            request.get_ref().envelope.as_ref(),
            request.extensions().get(),
        )?;
        let own = confirm::own_vote(&core).await;
        let own = own.map_err(|_| Status::unavailable("this controller is stopping"))?;
        let (term, leader) = (request.get_ref().term, request.get_ref().leader);
        Ok(Response::new(proto::ConfirmResponse {
            confirmed: confirm::confirms(own, term, leader),
        }))
    }

    async fn hello(
        &self,
        request: Request<proto::HelloRequest>,
    ) -> Result<Response<proto::HelloResponse>, Status> {
        let hello = request.into_inner();
        let settings = &self.raft.0.settings;
        if hello.cluster_id != settings.cluster {
            let text = format!(
                "this controller's secrets are of cluster {}, not {}",
                settings.cluster, hello.cluster_id
            );
            return Err(Status::failed_precondition(text));
        }
        let core = self.raft.core();
        let peers = core.as_ref().map(|core| core.peers()).unwrap_or_default();
        let your_node = peers
            .iter()
            .find(|(_, peer)| peer.directory == hello.directory)
            .map(|(id, _)| *id);
        Ok(Response::new(proto::HelloResponse {
            name: settings.name.clone(),
            directory: self.raft.0.directory.id().to_string(),
            cluster_id: settings.cluster.clone(),
            initialized: !peers.is_empty(),
            peer_address: settings.advertise.peers.clone(),
            xds_address: settings.advertise.xds.clone(),
            admin_address: settings.advertise.admin.clone(),
            expect: settings.bootstrap_expect,
            node: core.map_or(0, |core| core.node),
            your_node: your_node.unwrap_or_default(),
        }))
    }

    async fn join(
        &self,
        request: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::JoinResponse>, Status> {
        let core = self.core()?;
        let proved = request
            .extensions()
            .get::<Caller>()
            .and_then(|caller| caller.leaf.as_deref());
        let proved = proved.and_then(PeerIdentity::of).map(|peer| peer.directory);
        let join = request.into_inner();
        if join.cluster_id != self.raft.0.settings.cluster {
            return Err(Status::failed_precondition(
                "the secrets are of another cluster",
            ));
        }
        // Whoever passes a call on proves its own directory, not the joining one's.
        let is_member = proved
            .as_ref()
            .is_some_and(|proved| core.peers().values().any(|peer| peer.directory == *proved));
        if proved.as_ref() != Some(&join.directory) && !is_member {
            return Err(Status::permission_denied(
                "the certificate is of another directory",
            ));
        }
        let answer = self.raft.take_in(&core, join, !is_member).await?;
        Ok(Response::new(proto::JoinResponse {
            answer: Some(answer),
        }))
    }

    async fn renew_leases(
        &self,
        request: Request<proto::RenewLeasesRequest>,
    ) -> Result<Response<proto::RenewLeasesResponse>, Status> {
        let core = self.member(
            request.get_ref().envelope.as_ref(),
            request.extensions().get(),
        )?;
        let not_leader = !core.engine.is_leader();
        let unknown = match self.raft.0.leases.get() {
            Some(sink) if !not_leader => sink.renew(&request.get_ref().leases),
            Some(_) => Vec::new(),
            None => return Err(Status::unavailable("this controller is starting")),
        };
        Ok(Response::new(proto::RenewLeasesResponse {
            unknown,
            not_leader,
        }))
    }

    async fn roster(
        &self,
        request: Request<proto::RosterRequest>,
    ) -> Result<Response<proto::RosterResponse>, Status> {
        self.member(
            request.get_ref().envelope.as_ref(),
            request.extensions().get(),
        )?;
        let clients = self.clients()?;
        let proxies = match request.get_ref().count_only {
            true => Vec::new(),
            false => clients.proxies(),
        };
        let proxies = proxies
            .iter()
            .map(|proxy| prost::Message::encode_to_vec(proxy).into())
            .collect();
        Ok(Response::new(proto::RosterResponse {
            proxies,
            streams: clients.streams() as u64,
        }))
    }

    async fn preview_here(
        &self,
        request: Request<proto::PreviewHereRequest>,
    ) -> Result<Response<proto::PreviewHereResponse>, Status> {
        self.member(
            request.get_ref().envelope.as_ref(),
            request.extensions().get(),
        )?;
        let request = request.into_inner();
        let command = Command::decode(request.command)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let preview = self.clients()?.preview(command, request.index).await?;
        Ok(Response::new(proto::PreviewHereResponse {
            preview: prost::Message::encode_to_vec(&preview).into(),
        }))
    }

    async fn loads_here(
        &self,
        request: Request<proto::LoadsHereRequest>,
    ) -> Result<Response<proto::LoadsHereResponse>, Status> {
        self.member(
            request.get_ref().envelope.as_ref(),
            request.extensions().get(),
        )?;
        let asked = <proto::LoadsRequest as prost::Message>::decode(request.into_inner().request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let loads = self.clients()?.loads(&asked)?;
        Ok(Response::new(proto::LoadsHereResponse {
            loads: prost::Message::encode_to_vec(&loads).into(),
        }))
    }

    /// `hash` is the number of the first record wanted, as eight big-endian bytes.
    async fn fetch_segment(
        &self,
        request: Request<proto::FetchSegmentRequest>,
    ) -> Result<Response<Self::FetchSegmentStream>, Status> {
        let core = self.member(
            request.get_ref().envelope.as_ref(),
            request.extensions().get(),
        )?;
        let from = <[u8; 8]>::try_from(&request.get_ref().hash[..])
            .map_err(|_| Status::invalid_argument("no record number"))?;
        let records = core.records(u64::from_be_bytes(from), RECORDS_PER_PART);
        let records = records.map_err(|error| Status::internal(error.full_text()))?;
        let parts: Vec<_> = records
            .into_iter()
            .map(|data| {
                Ok(proto::SnapshotPart {
                    data,
                    ..Default::default()
                })
            })
            .collect();
        Ok(Response::new(futures_util::stream::iter(parts).boxed()))
    }
}

impl Service {
    /// Who knows this controller's xDS clients.
    fn clients(&self) -> Result<&Arc<dyn RosterSource>, Status> {
        let clients = self.raft.0.clients.get();
        clients.ok_or_else(|| Status::unavailable("this controller is starting"))
    }
}

fn not_leader(core: &Core) -> proto::NotLeader {
    proto::NotLeader {
        leader: core.metrics().current_leader.unwrap_or_default(),
    }
}

/// The requests of a stream, up to the first that cannot be read: what follows it must not be applied.
fn readable(
    messages: Streaming<proto::RaftMessage>,
    core: Arc<Core>,
    from: NodeId,
) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send + 'static {
    futures_util::stream::unfold((messages, core), move |(mut messages, core)| async move {
        let message = match messages.message().await {
            Ok(message) => message?,
            Err(status) => {
                tracing::debug!(%status, "a stream of entries broke");
                core.sever(from);
                return None;
            }
        };
        match wire::decode_append(message.payload) {
            Ok(request) => Some((request, (messages, core))),
            Err(error) => {
                tracing::error!(%error, "a peer's entries cannot be read");
                None
            }
        }
    })
}

async fn write_piece(mut receiver: Receiver, data: Bytes) -> Result<Receiver, Status> {
    let written =
        tokio::task::spawn_blocking(move || receiver.write(&data).map(|()| receiver)).await;
    let written = written.map_err(|error| Status::internal(error.to_string()))?;
    written.map_err(|error| Status::internal(error.full_text()))
}
