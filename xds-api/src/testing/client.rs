//! A client that asks for what the test says and takes whatever comes.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::{PATIENCE, QUEUE};
use crate::delta::{Client, Received};
use crate::envoy::config::core::v3::Node;
use crate::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use crate::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::type_url::TypeUrl;

/// A delta ADS client with one stream. What it holds outlives the stream: see [`FakeClient::reconnect`].
#[derive(Debug)]
pub struct FakeClient {
    state: Client,
    node: Node,
    stream: Option<Connected>,
    bytes: usize,
}

#[derive(Debug)]
struct Connected {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl FakeClient {
    /// A client that wants nothing yet and has no stream.
    pub fn new(node: Node) -> Self {
        Self {
            state: Client::new(),
            node,
            stream: None,
            bytes: 0,
        }
    }

    /// Opens a stream, in place of the present one, and asks for all that was asked for before. A stream's call begins
    /// with its first request: subscribe to something before.
    pub async fn reconnect(&mut self, channel: Channel) -> Result<(), Status> {
        self.state.disconnect();
        self.stream = None;
        let (requests, receiver) = mpsc::channel(QUEUE);
        for request in self.state.connect(self.node.clone()) {
            requests.send(request).await.map_err(|_| closed())?;
        }
        let mut service = AggregatedDiscoveryServiceClient::new(channel);
        let receiver = ReceiverStream::new(receiver);
        let responses = service
            .delta_aggregated_resources(receiver)
            .await?
            .into_inner();
        self.stream = Some(Connected {
            requests,
            responses,
        });
        Ok(())
    }

    /// The client's half of the conversation.
    pub fn state(&self) -> &Client {
        &self.state
    }

    /// Changes what the node says from the next stream on.
    pub fn set_node(&mut self, node: Node) {
        self.node = node;
    }

    /// How many bytes of resources have come.
    pub fn resource_bytes(&self) -> usize {
        self.bytes
    }

    /// Asks for names.
    pub async fn subscribe(&mut self, kind: TypeUrl, names: &[&str]) -> Result<(), Status> {
        let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        let request = self.state.subscribe(kind, &names);
        self.send(request).await
    }

    /// Asks for all of a type.
    pub async fn subscribe_all(&mut self, kind: TypeUrl) -> Result<(), Status> {
        let request = self.state.subscribe_all(kind);
        self.send(request).await
    }

    /// Asks no more for names.
    pub async fn unsubscribe(&mut self, kind: TypeUrl, names: &[&str]) -> Result<(), Status> {
        let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        let request = self.state.unsubscribe(kind, &names);
        self.send(request).await
    }

    /// Sends a request of the test's own making.
    pub async fn send(&mut self, request: Option<DeltaDiscoveryRequest>) -> Result<(), Status> {
        let (Some(request), Some(stream)) = (request, &self.stream) else {
            return Ok(());
        };
        stream.requests.send(request).await.map_err(|_| closed())
    }

    /// The next response, not yet answered. An error where the stream ends or nothing comes in time.
    pub async fn receive(&mut self) -> Result<Received, Status> {
        let stream = self.stream.as_mut().ok_or_else(closed)?;
        let message = tokio::time::timeout(PATIENCE, stream.responses.message());
        let silence = |_| Status::deadline_exceeded(format!("nothing came within {PATIENCE:?}"));
        let response = message.await.map_err(silence)??.ok_or_else(closed)?;
        let received = self.state.receive(response);
        let received = received.map_err(|rejected| Status::internal(rejected.reason))?;
        self.bytes += received
            .resources
            .iter()
            .map(|one| one.body.len())
            .sum::<usize>();
        Ok(received)
    }

    /// Acknowledges a response; gives it back.
    pub async fn accept(&mut self, received: Received) -> Result<Received, Status> {
        let request = self.state.accept(received.clone());
        self.send(Some(request)).await?;
        Ok(received)
    }

    /// Rejects a response as a whole.
    pub async fn reject(&mut self, received: Received, reason: &str) -> Result<(), Status> {
        let request = self.state.reject(received, &[], reason.to_owned());
        self.send(Some(request)).await
    }

    /// Receives and acknowledges one response.
    pub async fn take(&mut self) -> Result<Received, Status> {
        let received = self.receive().await?;
        self.accept(received).await
    }

    /// Receives and acknowledges until the condition holds; gives back all that came meanwhile.
    pub async fn take_until(
        &mut self,
        mut done: impl FnMut(&Client) -> bool,
    ) -> Result<Vec<Received>, Status> {
        let mut all = Vec::new();
        while !done(&self.state) {
            all.push(self.take().await?);
        }
        Ok(all)
    }
}

fn closed() -> Status {
    Status::unavailable("the stream is closed")
}
