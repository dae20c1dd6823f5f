//! The fake server and the fake client understand each other over a real connection.

#![allow(clippy::unwrap_used)]

use tonic::transport::{Channel, Endpoint};
use xds_api::delta::Verdict;
use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::config::listener::v3::Listener;
use xds_api::testing::{FakeClient, FakeServer};
use xds_api::type_url::TypeUrl;

fn listener(name: &str) -> Listener {
    Listener {
        name: name.into(),
        ..Default::default()
    }
}

fn channel(server: &FakeServer) -> Channel {
    Endpoint::from_shared(format!("http://{}", server.address()))
        .unwrap()
        .connect_lazy()
}

async fn connected(server: &FakeServer) -> FakeClient {
    let mut client = FakeClient::new(Node {
        id: "shop/web".into(),
        ..Default::default()
    });
    client
        .subscribe(TypeUrl::Listener, &["a", "b"])
        .await
        .unwrap();
    client.reconnect(channel(server)).await.unwrap();
    client
}

#[tokio::test]
async fn what_is_set_arrives_and_what_is_removed_goes() {
    let server = FakeServer::start().await.unwrap();
    server.set("a", &listener("a"));
    let mut client = connected(&server).await;
    let first = client.take().await.unwrap();
    assert_eq!(first.version, "1.2");
    assert_eq!((first.resources.len(), first.removed.len()), (1, 1));
    server.set("b", &listener("b"));
    server.remove(TypeUrl::Listener, "a");
    let holds_b =
        |state: &xds_api::delta::Client| state.held(TypeUrl::Listener).keys().eq([&"b".into()]);
    client.take_until(holds_b).await.unwrap();
}

#[tokio::test]
async fn a_rejection_reaches_the_server() {
    let server = FakeServer::start().await.unwrap();
    let mut client = connected(&server).await;
    let received = client.receive().await.unwrap();
    client.reject(received, "no").await.unwrap();
    let mut verdicts = server.verdicts();
    let seen = verdicts.wait_for(|all| !all.is_empty()).await.unwrap();
    assert_eq!(*seen, [(TypeUrl::Listener, Verdict::Rejected("no".into()))]);
}

#[tokio::test]
async fn a_reconnected_client_is_sent_differences_only() {
    let server = FakeServer::start().await.unwrap();
    server.set("a", &listener("a"));
    let mut client = connected(&server).await;
    client.take().await.unwrap();
    let before = client.resource_bytes();
    client.reconnect(channel(&server)).await.unwrap();
    let again = client.take().await.unwrap();
    assert_eq!(
        (again.resources.len(), &*again.removed),
        (0, &["b".into()][..])
    );
    assert_eq!(client.resource_bytes(), before);
}
