//! A client that speaks either form by hand, and counts what is said.

use std::collections::{BTreeMap, BTreeSet};

use prost::{Message, Name};
use tonic::Status;
use xds_api::conversation::Form;
use xds_api::envoy::config::cluster::v3::Cluster;
use xds_api::envoy::config::core::v3::{Node, TypedExtensionConfig};
use xds_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_api::envoy::config::listener::v3::Listener;
use xds_api::envoy::config::route::v3::RouteConfiguration;
use xds_api::envoy::extensions::transport_sockets::tls::v3::Secret;
use xds_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    ResourceError,
};
use xds_api::google::protobuf::Any;
use xds_api::node::Claim;
use xds_api::services::Service;
use xds_api::testing::RawStream;
use xds_api::type_url::TypeUrl;

use super::stage::{Stage, claim};

enum Stream {
    Delta(RawStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>),
    State(RawStream<DiscoveryRequest, DiscoveryResponse>),
}

/// A response of either form.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) kind: TypeUrl,
    pub(super) version: String,
    pub(super) nonce: String,
    pub(super) resources: BTreeMap<String, Any>,
    pub(super) removed: Vec<String>,
    pub(super) missing: Vec<String>,
}

impl Heard {
    pub(super) fn names(&self) -> Vec<&str> {
        self.resources.keys().map(String::as_str).collect()
    }
}

/// A client with one stream. It lists all that it wants of a type, or says the differences.
pub(super) struct Talk {
    stream: Stream,
    wanted: BTreeMap<TypeUrl, BTreeSet<String>>,
    nonces: BTreeMap<TypeUrl, String>,
    pub(super) requests: usize,
    pub(super) responses: usize,
}

/// The node that a client names first.
pub(super) fn node() -> Node {
    claim().message()
}

/// A stream of this service and form.
pub(super) async fn open_state(
    stage: &Stage,
    service: &Service,
    first: DiscoveryRequest,
) -> Result<RawStream<DiscoveryRequest, DiscoveryResponse>, Status> {
    let path = service.path(Form::StateOfTheWorld);
    RawStream::open(stage.channel(), &path, first).await
}

/// The same in deltas.
pub(super) async fn open_delta(
    stage: &Stage,
    service: &Service,
    first: DeltaDiscoveryRequest,
) -> Result<RawStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>, Status> {
    RawStream::open(stage.channel(), &service.path(Form::Delta), first).await
}

impl Talk {
    /// Opens a native proxy's stream with a request for these names.
    pub(super) async fn open(
        stage: &Stage,
        service: &Service,
        form: Form,
        kind: TypeUrl,
        names: &[&str],
    ) -> Result<Self, Status> {
        Self::open_as(&claim(), stage, service, form, kind, names).await
    }

    /// The same for another kind of client.
    pub(super) async fn open_as(
        client: &Claim,
        stage: &Stage,
        service: &Service,
        form: Form,
        kind: TypeUrl,
        names: &[&str],
    ) -> Result<Self, Status> {
        let listed = names.iter().map(ToString::to_string);
        let stream = match form {
            Form::Delta => {
                let first = DeltaDiscoveryRequest {
                    node: Some(client.message()),
                    type_url: kind.to_string(),
                    resource_names_subscribe: listed.clone().collect(),
                    ..Default::default()
                };
                Stream::Delta(open_delta(stage, service, first).await?)
            }
            Form::StateOfTheWorld => {
                let first = DiscoveryRequest {
                    node: Some(client.message()),
                    type_url: kind.to_string(),
                    resource_names: listed.clone().collect(),
                    ..Default::default()
                };
                Stream::State(open_state(stage, service, first).await?)
            }
        };
        Ok(Self {
            stream,
            wanted: BTreeMap::from([(kind, listed.collect())]),
            nonces: BTreeMap::new(),
            requests: 1,
            responses: 0,
        })
    }

    /// Wants these names of a type, and no others any more.
    pub(super) async fn want(&mut self, kind: TypeUrl, names: &[&str]) {
        let names: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        let before = self.wanted.insert(kind, names).unwrap_or_default();
        self.requests += 1;
        let now = &self.wanted[&kind];
        match &self.stream {
            Stream::Delta(stream) => {
                let request = DeltaDiscoveryRequest {
                    type_url: kind.to_string(),
                    resource_names_subscribe: now.difference(&before).cloned().collect(),
                    resource_names_unsubscribe: before.difference(now).cloned().collect(),
                    ..Default::default()
                };
                stream.send(request).await.unwrap();
            }
            Stream::State(_) => self.list(kind).await,
        }
    }

    /// Lists all that is wanted of a type, with the nonce of its last response.
    async fn list(&self, kind: TypeUrl) {
        let nonce = self.nonces.get(&kind).map(String::as_str);
        self.say(kind, nonce.unwrap_or_default()).await;
    }

    /// Lists all that is wanted of a type, with any nonce.
    pub(super) async fn say(&self, kind: TypeUrl, nonce: &str) {
        let Stream::State(stream) = &self.stream else {
            return;
        };
        let names = self.wanted.get(&kind).into_iter().flatten();
        let request = DiscoveryRequest {
            type_url: kind.to_string(),
            resource_names: names.cloned().collect(),
            response_nonce: nonce.to_owned(),
            ..Default::default()
        };
        stream.send(request).await.unwrap();
    }

    /// The next response, not yet acknowledged.
    pub(super) async fn hear(&mut self) -> Heard {
        let heard = match &mut self.stream {
            Stream::Delta(stream) => of_delta(stream.receive().await.unwrap()),
            Stream::State(stream) => of_state(stream.receive().await.unwrap()),
        };
        self.responses += 1;
        self.nonces.insert(heard.kind, heard.nonce.clone());
        heard
    }

    /// Acknowledges a type's last response.
    pub(super) async fn ack(&mut self, kind: TypeUrl) {
        self.requests += 1;
        match &self.stream {
            Stream::Delta(stream) => {
                let request = DeltaDiscoveryRequest {
                    type_url: kind.to_string(),
                    response_nonce: self.nonces[&kind].clone(),
                    ..Default::default()
                };
                stream.send(request).await.unwrap();
            }
            Stream::State(_) => self.list(kind).await,
        }
    }

    /// The next response of a type; what comes before it is acknowledged too.
    pub(super) async fn take_of(&mut self, kind: TypeUrl) -> Heard {
        loop {
            let heard = self.take().await;
            if heard.kind == kind {
                return heard;
            }
        }
    }

    /// Hears and acknowledges one response.
    pub(super) async fn take(&mut self) -> Heard {
        let heard = self.hear().await;
        self.ack(heard.kind).await;
        heard
    }
}

fn errors(kind: TypeUrl, errors: Vec<ResourceError>) -> Vec<String> {
    let name = |error: ResourceError| {
        let status = error.error_detail.unwrap();
        assert_eq!(status.code, 5, "{}: {}", kind.short(), status.message);
        error.resource_name.unwrap().name
    };
    errors.into_iter().map(name).collect()
}

fn of_delta(response: DeltaDiscoveryResponse) -> Heard {
    let kind = TypeUrl::parse(&response.type_url).unwrap();
    let resources = response.resources.into_iter();
    Heard {
        kind,
        version: response.system_version_info,
        nonce: response.nonce,
        resources: resources
            .map(|one| (one.name, one.resource.unwrap()))
            .collect(),
        removed: response.removed_resources,
        missing: errors(kind, response.resource_errors),
    }
}

fn of_state(response: DiscoveryResponse) -> Heard {
    let kind = TypeUrl::parse(&response.type_url).unwrap();
    let count = response.resources.len();
    let resources: BTreeMap<_, _> = response
        .resources
        .into_iter()
        .map(|any| (name(kind, &any), any))
        .collect();
    assert_eq!(resources.len(), count, "a name twice");
    Heard {
        kind,
        version: response.version_info,
        nonce: response.nonce,
        resources,
        removed: Vec::new(),
        missing: errors(kind, response.resource_errors),
    }
}

/// The name that stands in a resource.
fn name(kind: TypeUrl, any: &Any) -> String {
    fn read<M: Message + Name + Default>(any: &Any) -> M {
        assert_eq!(any.type_url, M::type_url());
        M::decode(any.value.clone()).unwrap()
    }
    match kind {
        TypeUrl::Cluster => read::<Cluster>(any).name,
        TypeUrl::Endpoints => read::<ClusterLoadAssignment>(any).cluster_name,
        TypeUrl::Secret => read::<Secret>(any).name,
        TypeUrl::Listener => read::<Listener>(any).name,
        TypeUrl::Extension => read::<TypedExtensionConfig>(any).name,
        TypeUrl::Route => read::<RouteConfiguration>(any).name,
    }
}
