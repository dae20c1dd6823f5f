//! Calls to other controllers: a connection each for entries, heartbeats, snapshots and everything else, so that none waits for another.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use xds_api::maille::v1 as proto;
use xds_api::maille::v1::peer_client::PeerClient;

use super::machine::SnapshotData;
use super::types::{NodeId, Peer, Types, Vote};
use super::wire::{self, WireError};
use crate::peer_ca::SERVER_NAME;
use crate::store::snapshot::SnapshotFile;
use crate::tls::Connector;

/// The largest message taken from a peer: a group of entries, or one entry of the largest size, with its frame.
pub(super) const LARGEST_MESSAGE: usize = 24 << 20;
/// Bytes of a snapshot in one message.
const SNAPSHOT_PIECE: usize = 1 << 20;
/// How often a connection is probed, and how long the answer may take: a peer behind a cut cable is given up after both.
const PROBE_EVERY: Duration = Duration::from_millis(500);
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// Before an absent peer is called again: far below an election, far above a busy loop.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// HTTP/2 windows for entries: a long distance must not throttle them.
const WINDOW: u32 = 8 << 20;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Entries,
    Heartbeats,
    Snapshots,
    Calls,
}

/// Who we are to others.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) cluster: String,
    pub(super) node: NodeId,
    pub(super) directory: String,
}

impl Sender {
    pub(super) fn envelope(&self, to: NodeId, directory: &str) -> proto::Envelope {
        proto::Envelope {
            cluster_id: self.cluster.clone(),
            from_node: self.node,
            to_node: to,
            to_directory: directory.to_owned(),
            from_directory: self.directory.clone(),
            format: wire::FORMAT,
        }
    }
}

/// The connections to all peers. Cheap to clone; connects when first used and again after a loss.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    connector: Connector,
    channels: Arc<Mutex<HashMap<(String, Purpose), Channel>>>,
}

impl Connections {
    pub(super) fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        let name = ServerName::try_from(SERVER_NAME).expect("a constant DNS name");
        Self {
            connector: Connector::new(tls, name),
            channels: Arc::default(),
        }
    }

    /// The client for an address. Must be called within the runtime that is to drive the connection.
    pub(super) fn client(
        &self,
        address: &str,
        purpose: Purpose,
    ) -> Result<PeerClient<Channel>, String> {
        let key = (address.to_owned(), purpose);
        let mut channels = self.channels.lock().expect("held for look-ups only");
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.connect(address)?;
                channels.insert(key, channel.clone());
                channel
            }
        };
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE))
    }

    fn connect(&self, address: &str) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| format!("`{address}` is no address: {e}"))?;
        let endpoint = endpoint
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PROBE_EVERY)
            .keep_alive_timeout(PROBE_LIMIT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        Ok(endpoint.connect_with_connector_lazy(self.connector.clone()))
    }
}

/// Makes openraft's clients.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) connections: Connections,
    pub(super) sender: Sender,
}

/// openraft's client for one peer.
#[derive(Debug)]
pub(super) struct PeerNetwork {
    network: Network,
    target: NodeId,
    peer: Peer,
    purpose: Purpose,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: NodeId, node: &Peer) -> PeerNetwork {
        self.client(target, node, Purpose::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Peer) -> PeerNetwork {
        self.client(target, node, Purpose::Heartbeats)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Peer) -> PeerNetwork {
        self.client(target, node, Purpose::Snapshots)
    }
}

impl Network {
    fn client(&self, target: NodeId, peer: &Peer, purpose: Purpose) -> PeerNetwork {
        PeerNetwork {
            network: self.clone(),
            target,
            peer: peer.clone(),
            purpose,
        }
    }
}

impl PeerNetwork {
    fn client(&self, purpose: Purpose) -> Result<PeerClient<Channel>, RPCError<Types>> {
        let made = self.network.connections.client(&self.peer.address, purpose);
        made.map_err(|text| RPCError::Unreachable(Unreachable::from_string(text)))
    }

    fn message(&self, payload: bytes::Bytes) -> proto::RaftMessage {
        proto::RaftMessage {
            envelope: Some(
                self.network
                    .sender
                    .envelope(self.target, &self.peer.directory),
            ),
            payload,
        }
    }

    fn request(&self, payload: bytes::Bytes, option: &RPCOption) -> Request<proto::RaftMessage> {
        let mut request = Request::new(self.message(payload));
        request.set_timeout(option.soft_ttl());
        request
    }
}

/// A peer that cannot be reached is left alone for a while; any other failure is tried again at once.
fn failure(status: Status) -> RPCError<Types> {
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition => {
            RPCError::Unreachable(Unreachable::new(&status))
        }
        _ => RPCError::Network(NetworkError::new(&status)),
    }
}

fn unreadable(error: WireError) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetworkV2<Types> for PeerNetwork {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let mut answers = self
            .stream_append(Box::pin(stream::once(async { rpc })), option)
            .await?;
        match answers.next().await {
            Some(answer) => Ok(answer?.into()),
            None => Err(RPCError::Network(NetworkError::from_string(
                "the peer closed the stream without an answer",
            ))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + openraft::OptionalSend + Unpin + 'static,
    {
        let envelope = self
            .network
            .sender
            .envelope(self.target, &self.peer.directory);
        let mut first = Some(envelope);
        // The first message says who calls whom, for the whole stream.
        let messages = input.map(move |request| proto::RaftMessage {
            envelope: first.take(),
            payload: wire::encode_append(request),
        });
        Box::pin(async move {
            let mut client = self.client(self.purpose)?;
            let answers = match client.append(messages).await {
                Ok(answers) => answers.into_inner(),
                Err(status) => {
                    // openraft's own back-off runs as it makes the next message, and a call that finds nobody asks for none.
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                    return Err(failure(status));
                }
            };
            let answers = answers.map(|message| {
                let message = message.map_err(failure)?;
                wire::decode_appended(message.payload).map_err(unreadable)
            });
            Ok(answers.boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = self.request(wire::encode_vote(&rpc), &option);
        let answer = self
            .client(Purpose::Calls)?
            .vote(request)
            .await
            .map_err(failure)?;
        wire::decode_voted(answer.into_inner().payload).map_err(unreadable)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = self.request(wire::encode_vote(&rpc), &option);
        let answer = self
            .client(Purpose::Calls)?
            .pre_vote(request)
            .await
            .map_err(failure)?;
        wire::decode_voted(answer.into_inner().payload).map_err(unreadable)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let SnapshotData::Published(file) = snapshot.snapshot else {
            let text = "a snapshot that is not verified is not sent";
            return Err(StreamingError::Network(NetworkError::from_string(text)));
        };
        let first = proto::SnapshotPart {
            envelope: Some(
                self.network
                    .sender
                    .envelope(self.target, &self.peer.directory),
            ),
            header: wire::encode_snapshot(&vote, &snapshot.meta),
            data: bytes::Bytes::new(),
        };
        let parts = stream::once(async { first }).chain(pieces(file));
        let mut client = self.client(Purpose::Snapshots)?;
        let mut request = Request::new(parts);
        request.set_timeout(option.soft_ttl());
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = client.install_snapshot(request) => {
                let answer = answer.map_err(failure)?;
                Ok(wire::decode_installed(answer.into_inner().payload).map_err(unreadable)?)
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = self.request(wire::encode_transfer(&rpc), &option);
        let answer = self
            .client(Purpose::Calls)?
            .transfer_leader(request)
            .await
            .map_err(failure)?;
        wire::decode_transferred(answer.into_inner().payload).map_err(unreadable)
    }

    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

/// The file in pieces. A piece that cannot be read ends the stream early, and the receiver's checksums refuse what came.
pub(super) fn pieces(
    file: SnapshotFile,
) -> impl Stream<Item = proto::SnapshotPart> + Send + 'static {
    stream::unfold((file, 0u64), |(file, offset)| async move {
        let reader = file.clone();
        let read =
            tokio::task::spawn_blocking(move || reader.read_raw(offset, SNAPSHOT_PIECE)).await;
        let data = match read {
            Ok(Ok(data)) if !data.is_empty() => data,
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => {
                tracing::error!(
                    error = error.full_text(),
                    "cannot read a snapshot to send it"
                );
                return None;
            }
            Err(error) => {
                tracing::error!(%error, "reading a snapshot was interrupted");
                return None;
            }
        };
        let next = offset + data.len() as u64;
        let part = proto::SnapshotPart {
            envelope: None,
            header: bytes::Bytes::new(),
            data,
        };
        Some((part, (file, next)))
    })
}
