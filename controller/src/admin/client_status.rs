//! CSDS: what each client was sent, and what it said to it. The names are the standard's, so that its tools can read it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming, async_trait};
use xds_api::envoy::service::status::v3::client_status_discovery_service_server::{
    ClientStatusDiscoveryService, ClientStatusDiscoveryServiceServer,
};
use xds_api::envoy::service::status::v3::{ClientStatusRequest, ClientStatusResponse};

use super::families::Clients;
use super::nodes::NodeChoice;
use super::{Author, families};
use crate::peer_ca::Role;
use crate::supervise::Stage;

/// The largest request: node matchers that a person or a tool has written.
const MAX_REQUEST: usize = 64 << 10;
/// How many streams did not say anything, in the head of an answer that came all the same.
const SILENT: &str = "maille-silent-streams";

/// Answers `envoy.service.status.v3.ClientStatusDiscoveryService` for the clients that have a stream at this controller.
#[derive(Debug, Clone)]
pub struct ClientStatusService {
    clients: Arc<dyn Clients>,
    trust_domain: Arc<str>,
    stopping: CancellationToken,
}

impl ClientStatusService {
    /// The tonic service for administrators of `trust_domain`. `tls::Caller` must stand in each request's extensions.
    pub fn server(
        stage: &Stage,
        trust_domain: &str,
        clients: Arc<dyn Clients>,
    ) -> ClientStatusDiscoveryServiceServer<Self> {
        let service = Self {
            clients,
            trust_domain: Arc::from(trust_domain),
            stopping: stage.stopping(),
        };
        ClientStatusDiscoveryServiceServer::new(service).max_decoding_message_size(MAX_REQUEST)
    }

    fn author<T>(&self, request: &Request<T>) -> Result<Author, Status> {
        let author = Author::of(request, &self.trust_domain)?;
        author.must_be(Role::Viewer)?;
        Ok(author)
    }

    async fn answer(
        &self,
        author: Author,
        request: ClientStatusRequest,
    ) -> Result<(ClientStatusResponse, u32), Status> {
        let choice = NodeChoice::of(&request.node_matchers)?;
        let chosen: families::Choice =
            Box::new(move |node| author.sees_node(node) && choice.takes(node));
        let contents = !request.exclude_resource_contents;
        let (config, silent) = self.clients.client_status(chosen, contents).await?;
        Ok((ClientStatusResponse { config }, silent))
    }
}

#[async_trait]
impl ClientStatusDiscoveryService for ClientStatusService {
    type StreamClientStatusStream =
        Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

    async fn stream_client_status(
        &self,
        request: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        let author = self.author(&request)?;
        let service = self.clone();
        let answers = request.into_inner().then(move |request| {
            let (service, author) = (service.clone(), author.clone());
            async move {
                let (answer, _) = service.answer(author, request?).await?;
                Ok(answer)
            }
        });
        let answers = answers.take_until(self.stopping.clone().cancelled_owned());
        Ok(Response::new(answers.boxed()))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        let author = self.author(&request)?;
        let (answer, silent) = self.answer(author, request.into_inner()).await?;
        let mut response = Response::new(answer);
        if silent > 0 {
            let metadata = response.metadata_mut();
            metadata.insert(SILENT, MetadataValue::from(silent));
        }
        Ok(response)
    }
}
