//! Every method, in both forms: rules A, and what only the state of the world has.

use std::sync::atomic::Ordering;

use tonic::Code;
use xds_api::conversation::Form;
use xds_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds_api::google::rpc::Status;
use xds_api::services::Service;
use xds_api::type_url::TypeUrl;

use super::stage::{Stage, WEB};
use super::wire::{Talk, node, open_delta, open_state};

const FORMS: [Form; 2] = [Form::Delta, Form::StateOfTheWorld];

fn ads() -> Service {
    Service::ALL[0]
}

fn service(kind: TypeUrl) -> Service {
    let found = Service::ALL.into_iter().find(|one| one.kind == Some(kind));
    found.unwrap()
}

/// A resource of each type that the sample has; `None`: it has none of the type.
fn known(kind: TypeUrl) -> Option<&'static str> {
    match kind {
        TypeUrl::Cluster | TypeUrl::Endpoints | TypeUrl::Route => Some("shop/web:80"),
        TypeUrl::Listener => Some("out/web.shop:80"),
        TypeUrl::Secret | TypeUrl::Extension => None,
    }
}

fn state(type_url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(node()),
        type_url: type_url.into(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn delta(type_url: &str, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node()),
        type_url: type_url.into(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a1_every_method_answers() {
    let stage = Stage::start(Some(WEB)).await;
    for kind in TypeUrl::ALL {
        for form in FORMS {
            let name = known(kind).unwrap_or("nothing");
            let talk = Talk::open(&stage, &service(kind), form, kind, &[name]).await;
            let heard = talk.unwrap().take().await;
            match known(kind) {
                Some(name) => assert_eq!(heard.names(), [name], "{kind} {form:?}"),
                None => {
                    assert_eq!(heard.missing, [name], "{kind} {form:?}");
                    let told_twice = form == Form::Delta;
                    assert_eq!(heard.removed.len(), usize::from(told_twice));
                }
            }
        }
    }
}

#[tokio::test]
async fn a2_one_type_alone_is_implied_and_all_together_must_be_told() {
    let stage = Stage::start(Some(WEB)).await;
    let cds = service(TypeUrl::Cluster);
    let mut implied = open_state(&stage, &cds, state("", &["shop/web:80"]))
        .await
        .unwrap();
    let response = implied.receive().await.unwrap();
    assert_eq!(response.type_url, TypeUrl::Cluster.as_str());
    let mut implied = open_delta(&stage, &cds, delta("", &["shop/web:80"]))
        .await
        .unwrap();
    assert_eq!(implied.receive().await.unwrap().resources.len(), 1);

    for (service, url) in [(cds, TypeUrl::Listener.as_str()), (ads(), "")] {
        let mut stream = open_state(&stage, &service, state(url, &[])).await.unwrap();
        let status = stream.receive().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let mut stream = open_delta(&stage, &service, delta(url, &[])).await.unwrap();
        let status = stream.receive().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
}

#[tokio::test]
async fn a3_a_later_node_is_ignored() {
    let stage = Stage::start(Some(WEB)).await;
    let first = state(TypeUrl::Listener.as_str(), &["host/web.shop"]);
    let mut stream = open_state(&stage, &ads(), first).await.unwrap();
    stream.receive().await.unwrap();
    let mut other = state(TypeUrl::Cluster.as_str(), &["shop/web:80"]);
    other.node.as_mut().unwrap().id = "shop/other".into();
    stream.send(other).await.unwrap();
    let second = stream.receive().await.unwrap();
    assert_eq!(second.type_url, TypeUrl::Cluster.as_str());
    assert_eq!(stage.xds.proxies()[0].node, "shop/web-1");
}

#[tokio::test]
async fn a4_an_unknown_type_does_not_end_the_stream() {
    let stage = Stage::start(Some(WEB)).await;
    let unknown = "type.googleapis.com/envoy.service.runtime.v3.Runtime";
    let mut stream = open_state(&stage, &ads(), state(unknown, &["a"]))
        .await
        .unwrap();
    let known = state(TypeUrl::Secret.as_str(), &["roots/test.mesh"]);
    stream.send(known).await.unwrap();
    let response = stream.receive().await.unwrap();
    assert_eq!(response.type_url, TypeUrl::Secret.as_str());
}

#[tokio::test]
async fn a7_streams_of_one_node_live_side_by_side() {
    let mut stage = Stage::start(Some(WEB)).await;
    let eds = service(TypeUrl::Endpoints);
    let mut talks = Vec::new();
    for form in FORMS {
        let names = ["shop/web:80"];
        let talk = Talk::open(&stage, &eds, form, TypeUrl::Endpoints, &names);
        talks.push(talk.await.unwrap());
    }
    for talk in &mut talks {
        talk.take().await;
    }
    drop(talks.remove(0));
    stage.set_health(2);
    assert_eq!(talks[0].take().await.names(), ["shop/web:80"]);
}

#[tokio::test]
async fn a10_a_list_of_many_long_names_is_read() {
    let stage = Stage::start(Some(WEB)).await;
    let names: Vec<String> = (0..100_000).map(|one| format!("{one:060}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for form in FORMS {
        let talk = Talk::open(&stage, &ads(), form, TypeUrl::Secret, &names).await;
        let heard = talk.unwrap().take().await;
        assert!(heard.resources.is_empty() && heard.missing.len() > 1000);
    }
}

#[tokio::test]
async fn d1_d5_the_state_of_the_world_is_whole_and_endpoints_follow_their_cluster() {
    let mut stage = Stage::start(Some(WEB)).await;
    let mut talk = Talk::open(
        &stage,
        &ads(),
        Form::StateOfTheWorld,
        TypeUrl::Listener,
        &["out/web.shop:80"],
    )
    .await
    .unwrap();
    for kind in [TypeUrl::Cluster, TypeUrl::Endpoints, TypeUrl::Route] {
        talk.want(kind, &["*"]).await;
    }
    let mut seen = std::collections::BTreeMap::new();
    while seen.len() < 4 {
        let heard = talk.take().await;
        seen.insert(heard.kind, heard);
    }
    let clusters = ["shop/api:80", "shop/web-v2:80", "shop/web:80"];
    assert_eq!(seen[&TypeUrl::Cluster].names(), clusters);
    stage.put("apiVersion: maille.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: api}\nspec: {targetRef: {kind: Service, name: api, port: 80}, limits: {maxConnections: 7}}\n");
    let changed = talk.take().await;
    assert_eq!(
        (changed.kind, changed.names()),
        (TypeUrl::Cluster, clusters.to_vec())
    );
    assert_ne!(changed.version, seen[&TypeUrl::Cluster].version);
    let endpoints = talk.take().await;
    assert_eq!(
        (endpoints.kind, endpoints.names()),
        (TypeUrl::Endpoints, vec!["shop/api:80"])
    );
    let index = stage.version().index;
    stage.roster(|proxy| proxy.clean_through == index).await;
}

#[tokio::test]
async fn b2_two_controllers_say_the_same_version() {
    let mut versions = Vec::new();
    for _ in 0..2 {
        let stage = Stage::start(Some(WEB)).await;
        let names = ["out/web.shop:80", "host/web.shop"];
        let form = Form::StateOfTheWorld;
        let talk = Talk::open(&stage, &ads(), form, TypeUrl::Listener, &names).await;
        versions.push(talk.unwrap().take().await.version);
    }
    assert_eq!(versions[0], versions[1]);
}

#[tokio::test]
async fn b5_a_rejection_in_the_state_of_the_world_is_in_the_roster() {
    let stage = Stage::start(Some(WEB)).await;
    let first = state(TypeUrl::Secret.as_str(), &["roots/test.mesh"]);
    let mut stream = open_state(&stage, &ads(), first).await.unwrap();
    let response = stream.receive().await.unwrap();
    let nack = DiscoveryRequest {
        response_nonce: response.nonce,
        error_detail: Some(Status {
            message: "no such thing".into(),
            ..Default::default()
        }),
        ..state(TypeUrl::Secret.as_str(), &["roots/test.mesh"])
    };
    stream.send(nack).await.unwrap();
    let proxy = stage.roster(|proxy| !proxy.last_nack.is_empty()).await;
    assert!(proxy.last_nack.contains("SDS"), "{}", proxy.last_nack);
}

#[tokio::test]
async fn without_quorum_a_list_with_a_version_is_sent_elsewhere() {
    let stage = Stage::start(Some(WEB)).await;
    stage.cluster.quorum.store(false, Ordering::SeqCst);
    let fresh = state(TypeUrl::Secret.as_str(), &["roots/test.mesh"]);
    let mut returning = fresh.clone();
    returning.version_info = "1".into();
    let mut stream = open_state(&stage, &ads(), fresh).await.unwrap();
    stream.receive().await.unwrap();
    let status = open_state(&stage, &ads(), returning).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}
