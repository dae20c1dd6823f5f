//! One xDS stream over a TLS connection of its own, down to gRPC's bytes: for tests that send what no client would, and for benches in which
//! a client must cost little.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{Method, Request};
use prost::Message;
use rustls::ClientConfig;
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use xds_api::type_url::TypeUrl;

use crate::identity;

/// All types in deltas on one stream.
pub const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// gRPC's prefix of a message: one byte for "not compressed", four for the length.
const PREFIX: usize = 5;

/// The stream. What is not read fills the windows of HTTP/2, and then the server waits.
#[derive(Debug)]
pub struct Stream {
    requests: SendStream<Bytes>,
    head: Option<ResponseFuture>,
    body: Option<RecvStream>,
    read: BytesMut,
    driver: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // With the driver goes the connection.
        self.driver.abort();
    }
}

impl Stream {
    /// Calls a method on a connection of its own; nothing is said on it yet.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn open(tls: Arc<ClientConfig>, server: SocketAddr) -> anyhow::Result<Stream> {
        let tls = identity::secure(server, tls, "maille-controller".to_owned()).await?;
        let (send, connection) = h2::client::handshake(tls).await?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://maille-controller{DELTA}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let mut send = send.ready().await?;
        let (head, requests) = send.send_request(request.body(())?, false)?;
        Ok(Stream {
            requests,
            head: Some(head),
            body: None,
            read: BytesMut::new(),
            driver,
        })
    }

    /// Whether its connection stands.
    pub fn is_connected(&self) -> bool {
        !self.driver.is_finished()
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn send(&mut self, message: &impl Message) -> anyhow::Result<()> {
        let mut bytes = BytesMut::with_capacity(PREFIX + message.encoded_len());
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.encoded_len())?);
        message.encode(&mut bytes)?;
        self.send_raw(bytes.freeze())
    }

    /// Sends bytes as they are, whether they are a message or not.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn send_raw(&mut self, bytes: Bytes) -> anyhow::Result<()> {
        self.requests
            .send_data(bytes, false)
            .context("sending on an xDS stream")
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.requests
            .send_data(Bytes::new(), true)
            .context("closing an xDS stream")
    }

    /// The next message's bytes.
    ///
    /// # Errors
    /// The status with which the server ended the stream; `Unknown` where the connection broke.
    pub async fn next(&mut self) -> Result<Bytes, Status> {
        if let Some(head) = self.head.take() {
            let answer = head.await.map_err(broken)?;
            if let Some(status) = Status::from_header_map(answer.headers()) {
                return Err(status);
            }
            self.body = Some(answer.into_body());
        }
        let body = self
            .body
            .as_mut()
            .ok_or_else(|| Status::unknown("it was refused before"))?;
        loop {
            if let Some(message) = message(&mut self.read) {
                return Ok(message);
            }
            let Some(data) = body.data().await else {
                let trailers = body.trailers().await.map_err(broken)?;
                let status = trailers.and_then(|trailers| Status::from_header_map(&trailers));
                return Err(status.unwrap_or_else(|| Status::unknown("it ended without a status")));
            };
            let data = data.map_err(broken)?;
            body.flow_control()
                .release_capacity(data.len())
                .map_err(broken)?;
            self.read.extend_from_slice(&data);
        }
    }

    /// The next response.
    ///
    /// # Errors
    /// As [`Stream::next`].
    pub async fn response(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let bytes = self.next().await?;
        DeltaDiscoveryResponse::decode(bytes)
            .map_err(|failure| Status::data_loss(failure.to_string()))
    }

    /// The status with which the server ends the stream; what comes before is not answered.
    pub async fn ended(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

/// Takes a whole message from what was read.
fn message(read: &mut BytesMut) -> Option<Bytes> {
    let prefix: [u8; PREFIX] = read.get(..PREFIX)?.try_into().ok()?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if read.len() < PREFIX + length {
        return None;
    }
    read.advance(PREFIX);
    Some(read.split_to(length).freeze())
}

fn broken(failure: h2::Error) -> Status {
    Status::new(Code::Unknown, format!("the connection broke: {failure}"))
}

/// The node of a native sidecar that stands nowhere.
pub fn node(id: &str, account: &str) -> Node {
    Node {
        id: id.to_owned(),
        cluster: account.to_owned(),
        user_agent_name: "maille-proxy".to_owned(),
        ..Node::default()
    }
}

/// A type's first request, without a node: these names, or everything where there are none.
pub fn subscribe(kind: TypeUrl, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.to_string(),
        resource_names_subscribe: names.iter().map(|&name| name.to_owned()).collect(),
        ..Default::default()
    }
}

/// The acknowledgement of a response.
pub fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    }
}
