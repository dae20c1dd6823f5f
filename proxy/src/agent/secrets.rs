//! SDS: the one secret `own`, in deltas and in whole states, pushed anew at every renewal.

use super::certificate::{self, OWN};
use super::whole;
use crate::identity::Credentials;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use xds_api::delta::{self, View};
use xds_api::envoy::service::discovery::v3 as discovery;
use xds_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds_api::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use xds_api::google::protobuf::Any;
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

type Responses<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service. Streams that open before there is a certificate wait for it.
#[derive(Debug, Clone)]
pub(super) struct Secrets {
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
}

impl Secrets {
    pub(super) fn new(credentials: watch::Receiver<Option<Arc<Credentials>>>) -> Self {
        Self { credentials }
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type DeltaSecretsStream = Responses<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Responses<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        let state = delta::Server::new();
        let talk = Talk::new(request.into_inner(), state, self.credentials.clone());
        Ok(Response::new(talk.responses()))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let state = whole::Stream::default();
        let talk = Talk::new(request.into_inner(), state, self.credentials.clone());
        Ok(Response::new(talk.responses()))
    }
}

/// Either form of the conversation.
trait Conversation: Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;
    fn take(&mut self, request: Self::Request) -> Result<(), delta::Refusal>;
    fn changed(&mut self);
    fn due(&mut self, own: Option<&Arc<Resource>>) -> Option<Self::Response>;
}

impl Conversation for delta::Server {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn take(&mut self, mut request: DeltaDiscoveryRequest) -> Result<(), delta::Refusal> {
        if request.type_url.is_empty() {
            // On a stream of one type the type may be left out.
            request.type_url = TypeUrl::Secret.to_string();
        }
        self.request(request).map(drop)
    }

    fn changed(&mut self) {
        delta::Server::changed(self, TypeUrl::Secret, &OWN.into());
    }

    fn due(&mut self, own: Option<&Arc<Resource>>) -> Option<DeltaDiscoveryResponse> {
        let version = own.map(|own| own.version().to_string());
        let response = self.next(&Own(own))?;
        Some(message(response, version.unwrap_or_default()))
    }
}

impl Conversation for whole::Stream {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn take(&mut self, request: DiscoveryRequest) -> Result<(), delta::Refusal> {
        self.request(&request);
        Ok(())
    }

    fn changed(&mut self) {}

    fn due(&mut self, own: Option<&Arc<Resource>>) -> Option<DiscoveryResponse> {
        self.next(own)
    }
}

/// One stream.
struct Talk<C: Conversation> {
    requests: Streaming<C::Request>,
    state: C,
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
    own: Option<Arc<Resource>>,
    ended: bool,
}

impl<C: Conversation + Unpin> Talk<C> {
    fn new(
        requests: Streaming<C::Request>,
        state: C,
        credentials: watch::Receiver<Option<Arc<Credentials>>>,
    ) -> Self {
        let mut talk = Self {
            requests,
            state,
            credentials,
            own: None,
            ended: false,
        };
        talk.look();
        talk
    }

    /// Takes over the certificate in force. One that has expired without another stays: Envoy would keep it anyway.
    fn look(&mut self) {
        let current = self.credentials.borrow_and_update().clone();
        if let Some(current) = current {
            self.own = Some(Arc::new(certificate::resource(&current)));
        }
    }

    fn responses(self) -> Responses<C::Response> {
        Box::pin(futures_util::stream::unfold(self, |mut talk| async move {
            let response = talk.next().await?;
            Some((response, talk))
        }))
    }

    async fn next(&mut self) -> Option<Result<C::Response, Status>> {
        while !self.ended {
            if let Some(response) = self.state.due(self.own.as_ref()) {
                return Some(Ok(response));
            }
            tokio::select! {
                // A client that goes away, in whatever manner, needs no answer.
                request = self.requests.message() => match self.state.take(request.ok()??) {
                    Ok(()) => {}
                    Err(refusal) => {
                        self.ended = true;
                        return Some(Err(Status::invalid_argument(refusal.to_string())));
                    }
                },
                changed = self.credentials.changed() => {
                    changed.ok()?;
                    self.look();
                    self.state.changed();
                }
            }
        }
        None
    }
}

/// All that there is.
struct Own<'a>(Option<&'a Arc<Resource>>);

impl View for Own<'_> {
    fn get(&self, kind: TypeUrl, name: &str) -> Option<Arc<Resource>> {
        let named = kind == TypeUrl::Secret && name == OWN;
        self.0.filter(|_| named).cloned()
    }

    fn covers(&self, _: TypeUrl, _: &str, _: bool) -> bool {
        false
    }

    /// A key is given only to who names it.
    fn wildcard(&self, _: TypeUrl) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// Before there is a certificate nothing is answered: `own` would be told to be gone.
    fn ready(&self, kind: TypeUrl) -> bool {
        kind == TypeUrl::Secret && self.0.is_some()
    }
}

fn message(response: delta::Response, version: String) -> DeltaDiscoveryResponse {
    let type_url = response.kind.to_string();
    let resource = |one: &Arc<Resource>| discovery::Resource {
        name: one.name().to_string(),
        version: one.version().to_string(),
        resource: Some(Any {
            type_url: type_url.clone(),
            value: one.body().clone(),
        }),
        ..discovery::Resource::default()
    };
    let removed = response.removed.iter();
    DeltaDiscoveryResponse {
        system_version_info: version,
        nonce: response.nonce.to_string(),
        resources: response.resources.iter().map(resource).collect(),
        removed_resources: removed.map(ToString::to_string).collect(),
        type_url,
        ..DeltaDiscoveryResponse::default()
    }
}
