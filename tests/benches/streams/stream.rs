//! One delta stream over its own TLS connection, acknowledging everything, and telling when endpoints arrive.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use anyhow::Context;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use xds_api::delta::Client;
use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds_api::type_url::TypeUrl;

/// More than the requests of one closure; a stream that is behind waits.
const QUEUE: usize = 16;

/// What a stream reports.
pub(crate) enum Event {
    /// It holds the whole closure of its listener.
    Complete,
    /// Endpoints came, and their acknowledgement is on its way.
    Endpoints(Instant),
}

/// Runs one stream until it ends; an end is an error.
pub(crate) async fn run(
    tls: Arc<ClientConfig>,
    server: SocketAddr,
    node: String,
    listener: Arc<str>,
    events: mpsc::UnboundedSender<Event>,
) -> anyhow::Result<()> {
    let channel = channel(tls, server).await?;
    let (requests, receiver) = mpsc::channel(QUEUE);
    let mut client = Client::new();
    client.subscribe(TypeUrl::Listener, &[listener]);
    for kind in [TypeUrl::Cluster, TypeUrl::Endpoints, TypeUrl::Route] {
        client.subscribe_all(kind);
    }
    let node = Node {
        id: node,
        cluster: "client".into(),
        user_agent_name: "maille-proxy".into(),
        ..Node::default()
    };
    for request in client.connect(node) {
        requests.send(request).await?;
    }
    let mut service = AggregatedDiscoveryServiceClient::new(channel);
    let stream = service
        .delta_aggregated_resources(ReceiverStream::new(receiver))
        .await?;
    let mut stream = stream.into_inner();
    let mut complete = false;
    while let Some(response) = stream.message().await? {
        let received = client
            .receive(response)
            .map_err(|rejected| anyhow::anyhow!(rejected.reason))?;
        let endpoints = received.kind == TypeUrl::Endpoints && !received.resources.is_empty();
        requests.send(client.accept(received)).await?;
        if complete && endpoints {
            events.send(Event::Endpoints(Instant::now()))?;
        }
        if !complete
            && TypeUrl::ALL
                .iter()
                .filter(|kind| **kind != TypeUrl::Secret)
                .all(|kind| !client.held(*kind).is_empty())
        {
            complete = true;
            events.send(Event::Complete)?;
        }
    }
    anyhow::bail!("the server ended the stream")
}

/// A channel over one TLS connection.
pub(crate) async fn channel(tls: Arc<ClientConfig>, server: SocketAddr) -> anyhow::Result<Channel> {
    Endpoint::from_static("http://maille-controller")
        .connect_with_connector(Connector { tls, server })
        .await
        .with_context(|| format!("connecting to {server}"))
}

struct Connector {
    tls: Arc<ClientConfig>,
    server: SocketAddr,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (tls, server) = (Arc::clone(&self.tls), self.server);
        Box::pin(async move {
            let tcp = TcpStream::connect(server).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from("maille-controller").map_err(std::io::Error::other)?;
            TlsConnector::from(tls)
                .connect(name, tcp)
                .await
                .map(TokioIo::new)
        })
    }
}
