//! SDS: what is asked, what comes, and when.

use super::World;
use crate::agent::certificate;
use crate::fakes::Authority;
use prost::Message;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::config::core::v3::data_source::Specifier;
use xds_api::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use xds_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
};
use xds_api::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use xds_api::google::protobuf::Any;
use xds_api::type_url::TypeUrl;

/// Chain and key of a secret, as PEM.
fn read(any: &Any) -> (String, String) {
    assert_eq!(any.type_url, TypeUrl::Secret.as_str());
    let secret = Secret::decode(any.value.clone()).unwrap();
    assert_eq!(secret.name, "own");
    let Some(secret::Type::TlsCertificate(certificate)) = secret.r#type else {
        panic!("no certificate");
    };
    let text = |source: Option<_>| {
        let source: xds_api::envoy::config::core::v3::DataSource = source.unwrap();
        let Some(Specifier::InlineBytes(pem)) = source.specifier else {
            panic!("not inline");
        };
        String::from_utf8(pem.to_vec()).unwrap()
    };
    (
        text(certificate.certificate_chain),
        text(certificate.private_key),
    )
}

/// The next response.
async fn soon<T>(responses: &mut Streaming<T>) -> T {
    let message = tokio::time::timeout(Duration::from_secs(10), responses.message());
    message.await.expect("nothing came").unwrap().unwrap()
}

/// A client of the delta form, which acknowledges what it takes.
struct Delta {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Delta {
    async fn open(world: &World, names: &[&str]) -> Self {
        let (requests, outgoing) = mpsc::channel(4);
        let first = DeltaDiscoveryRequest {
            node: Some(Node::default()),
            type_url: TypeUrl::Secret.to_string(),
            resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(first).await.unwrap();
        let mut client = SecretDiscoveryServiceClient::new(world.channel().await);
        let responses = client.delta_secrets(ReceiverStream::new(outgoing)).await;
        let responses = responses.unwrap().into_inner();
        Self {
            requests,
            responses,
        }
    }

    async fn take(&mut self) -> DeltaDiscoveryResponse {
        let response = soon(&mut self.responses).await;
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: TypeUrl::Secret.to_string(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(acknowledgement).await.unwrap();
        response
    }
}

#[tokio::test]
async fn the_own_certificate_comes_and_again_after_a_renewal() {
    let world = World::new(Authority::new(), Vec::new());
    // The stream is there before the certificate.
    let mut client = Delta::open(&world, &["own"]).await;
    let mut before = None;
    for _ in 0..2 {
        let credentials = world.certify();
        let response = client.take().await;
        let [resource] = response.resources.as_slice() else {
            panic!("{response:?}")
        };
        let found = read(resource.resource.as_ref().unwrap());
        let key = certificate::key(&credentials).to_string();
        assert_eq!(found, (certificate::chain(&credentials), key));
        let expected = certificate::resource(&credentials).version().to_string();
        assert_eq!(resource.version, expected);
        assert_eq!(response.system_version_info, expected);
        assert_ne!(before.replace(expected.clone()), Some(expected));
    }
}

#[tokio::test]
async fn another_name_is_told_not_to_be_there() {
    let world = World::new(Authority::new(), Vec::new());
    world.certify();
    let mut client = Delta::open(&world, &["own", "peers/shop/api"]).await;
    let response = client.take().await;
    assert_eq!(response.resources.len(), 1);
    assert_eq!(response.removed_resources, ["peers/shop/api"]);
}

#[tokio::test]
async fn nobody_gets_the_key_by_asking_for_everything() {
    let world = World::new(Authority::new(), Vec::new());
    world.certify();
    let mut client = Delta::open(&world, &["*"]).await;
    let response = client.take().await;
    assert!(response.resources.is_empty());
}

#[tokio::test]
async fn a_client_of_whole_states_is_served_too() {
    let world = World::new(Authority::new(), Vec::new());
    let (requests, outgoing) = mpsc::channel(4);
    let request = |nonce: String, version: String| DiscoveryRequest {
        resource_names: vec!["own".into()],
        type_url: TypeUrl::Secret.to_string(),
        response_nonce: nonce,
        version_info: version,
        ..DiscoveryRequest::default()
    };
    let first = request(String::new(), String::new());
    requests.send(first).await.unwrap();
    let mut client = SecretDiscoveryServiceClient::new(world.channel().await);
    let responses = client.stream_secrets(ReceiverStream::new(outgoing)).await;
    let mut responses = responses.unwrap().into_inner();
    for _ in 0..2 {
        let credentials = world.certify();
        let response = soon(&mut responses).await;
        assert_eq!(
            read(&response.resources[0]).0,
            certificate::chain(&credentials)
        );
        let acknowledgement = request(response.nonce, response.version_info);
        requests.send(acknowledgement).await.unwrap();
    }
}

#[tokio::test]
async fn a_first_request_without_a_node_is_refused() {
    let world = World::new(Authority::new(), Vec::new());
    let mut client = SecretDiscoveryServiceClient::new(world.channel().await);
    let nobody = tokio_stream::once(DeltaDiscoveryRequest::default());
    let responses = client.delta_secrets(nobody).await.unwrap();
    let refused = responses.into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
