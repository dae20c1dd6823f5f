//! One delta stream over its own TLS connection, acknowledging everything, and telling when endpoints arrive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use maille_tests::identity;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
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
    let channel = identity::channel(tls, server).await?;
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
                .filter(|kind| !matches!(kind, TypeUrl::Secret | TypeUrl::Extension))
                .all(|kind| !client.held(*kind).is_empty())
        {
            complete = true;
            events.send(Event::Complete)?;
        }
    }
    anyhow::bail!("the server ended the stream")
}
