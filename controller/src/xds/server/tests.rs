//! Streams over loopback: the native proxy's with the fake client of `xds-api`, the other forms by hand.
#![allow(clippy::unwrap_used)]

mod forms;
mod loads;
mod scenarios;
mod stage;
mod wire;

use std::sync::atomic::Ordering;

use tonic::Code;
use xds_api::mesh_version::MeshVersion;
use xds_api::node::Claim;
use xds_api::testing::FakeClient;
use xds_api::type_url::TypeUrl;

use self::stage::{Stage, WEB, claim};
use super::*;

#[tokio::test]
async fn a_proxy_gets_its_closure_and_then_only_changes() {
    let mut stage = Stage::start(Some(WEB)).await;
    let mut client = stage.proxy(&["out/web.shop:80", "in/shop/web-1"]).await;
    let all = client.take_until(|state| {
        state.held(TypeUrl::Listener).len() == 2
            && state.held(TypeUrl::Route).len() == 1
            && state.held(TypeUrl::Endpoints).len() == 3
    });
    let all = all.await.unwrap();
    assert_eq!(all[0].version, stage.version().to_string());
    stage.set_health(2);
    let change = client.take().await.unwrap();
    assert_eq!(
        (change.kind, change.resources.len()),
        (TypeUrl::Endpoints, 1)
    );
    assert_eq!(change.version, stage.version().to_string());
    let index = stage.version().index;
    let proxy = stage.roster(|proxy| proxy.clean_through == index).await;
    assert_eq!(
        (
            proxy.node.as_str(),
            proxy.spiffe_id.as_str(),
            proxy.version.as_str()
        ),
        ("shop/web-1", WEB, "1.2.3")
    );
    assert_eq!((proxy.behind_seconds, proxy.resources), (0, 9));
    assert_eq!(
        usize::try_from(proxy.resource_bytes).unwrap(),
        client.resource_bytes()
    );
}

#[tokio::test]
async fn a_client_that_returns_is_sent_no_resource_again() {
    let stage = Stage::start(Some(WEB)).await;
    let mut client = stage.proxy(&["out/web.shop:80"]).await;
    client
        .take_until(|state| state.held(TypeUrl::Route).len() == 1)
        .await
        .unwrap();
    let before = client.resource_bytes();
    let other = Stage::start(Some(WEB)).await;
    let seen = Claim {
        view: Some(stage.version()),
        ..claim()
    };
    client.set_node(seen.message());
    other.connect(&mut client).await.unwrap();
    for _ in 0..3 {
        assert!(client.take().await.unwrap().resources.is_empty());
    }
    assert_eq!(client.resource_bytes(), before);
}

#[tokio::test]
async fn a_rejection_is_in_the_roster() {
    let stage = Stage::start(Some(WEB)).await;
    let mut client = stage.proxy(&["host/web.shop"]).await;
    let received = loop {
        let received = client.receive().await.unwrap();
        if received.kind == TypeUrl::Listener {
            break received;
        }
        client.accept(received).await.unwrap();
    };
    client.reject(received, "no such thing").await.unwrap();
    let proxy = stage.roster(|proxy| !proxy.last_nack.is_empty()).await;
    assert!(
        proxy.last_nack.contains("no such thing"),
        "{}",
        proxy.last_nack
    );
    assert_eq!(proxy.clean_through, 0);
    drop(client);
    let limit = tokio::time::Instant::now() + Duration::from_secs(10);
    while stage.xds.streams() > 0 {
        assert!(tokio::time::Instant::now() < limit, "the stream stays");
        tokio::task::yield_now().await;
    }
}

async fn check_refused(identity: Option<&str>, claim: Claim, code: Code, text: &str) {
    let stage = Stage::start(identity).await;
    let mut client = FakeClient::new(claim.message());
    client
        .subscribe(TypeUrl::Listener, &["in/shop/web-1"])
        .await
        .unwrap();
    let status = stage.connect(&mut client).await.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(text), "{status}");
    stage.supervisor.stop().await;
}

#[tokio::test]
async fn a_node_is_bound_to_its_certificate() {
    check_refused(None, claim(), Code::Unauthenticated, "certificate").await;
    let denied = Code::PermissionDenied;
    check_refused(
        Some("spiffe://test.mesh/admin/ann"),
        claim(),
        denied,
        "not a workload",
    )
    .await;
    check_refused(
        Some("spiffe://other/ns/shop/sa/web"),
        claim(),
        denied,
        "another trust domain",
    )
    .await;
    check_refused(
        Some("spiffe://test.mesh/ns/shop/sa/api"),
        claim(),
        denied,
        "cannot be",
    )
    .await;
    let api = Claim {
        service_account: "api".into(),
        ..claim()
    };
    check_refused(
        Some("spiffe://test.mesh/ns/shop/sa/api"),
        api,
        denied,
        "belongs to",
    )
    .await;
    let elsewhere = Claim {
        namespace: "other".into(),
        ..claim()
    };
    check_refused(Some(WEB), elsewhere, denied, "cannot be").await;
    let other = Claim {
        agent: "other".into(),
        ..claim()
    };
    check_refused(Some(WEB), other, Code::Unimplemented, "other").await;
    let nobody = Claim {
        workload: String::new(),
        ..claim()
    };
    check_refused(Some(WEB), nobody, Code::InvalidArgument, "node id").await;
}

#[tokio::test]
async fn a_client_that_has_seen_more_is_sent_elsewhere() {
    let future = Claim {
        view: Some(MeshVersion {
            incarnation: 7,
            index: 900,
        }),
        ..claim()
    };
    check_refused(Some(WEB), future, Code::Unavailable, "has seen 7.900").await;
}

#[tokio::test]
async fn without_quorum_only_a_client_with_nothing_is_served() {
    let stage = Stage::start(Some(WEB)).await;
    stage.cluster.quorum.store(false, Ordering::SeqCst);
    let mut fresh = stage.proxy(&["host/web.shop"]).await;
    fresh
        .take_until(|state| !state.held(TypeUrl::Listener).is_empty())
        .await
        .unwrap();
    let seen = Claim {
        view: Some(stage.version()),
        ..claim()
    };
    fresh.set_node(seen.message());
    let status = stage.connect(&mut fresh).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("keep what you have"), "{status}");
}

#[tokio::test]
async fn a_stopping_controller_ends_its_streams_with_a_status() {
    let stage = Stage::start(Some(WEB)).await;
    let mut client = stage.proxy(&["host/nope.shop"]).await;
    client.take().await.unwrap();
    stage.supervisor.stop().await;
    let status = loop {
        match client.take().await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn equal_meshes_have_equal_hashes() {
    let mut one = Stage::start(Some(WEB)).await;
    let two = Stage::start(Some(WEB)).await;
    let index = one.version().index;
    let made = |xds: &Xds, index| match xds.resource_hashes(index) {
        Hashes::Made(hashes) => hashes,
        other => panic!("{other:?}"),
    };
    let before = made(&one.xds, index);
    assert_eq!(before, made(&two.xds, index));
    assert_eq!(one.xds.resource_hashes(index + 1), Hashes::NotYet);
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        [
            "CDS",
            "ECDS",
            "EDS",
            "LDS",
            "RDS",
            "SDS",
            "envoy CDS",
            "envoy ECDS",
            "envoy EDS",
            "envoy LDS",
            "envoy RDS",
            "envoy SDS",
            "grpc CDS",
            "grpc ECDS",
            "grpc EDS",
            "grpc LDS",
            "grpc RDS",
            "grpc SDS"
        ]
    );
    one.set_health(2);
    let mut published = one.xds.shared.published.subscribe();
    let wanted = one.version();
    published
        .wait_for(|published| published.version == wanted)
        .await
        .unwrap();
    assert_eq!(one.xds.resource_hashes(index), Hashes::Past);
    let after = made(&one.xds, wanted.index);
    let changed: Vec<_> = before
        .keys()
        .filter(|kind| before[*kind] != after[*kind])
        .collect();
    assert_eq!(changed, ["EDS", "envoy EDS", "grpc EDS"]);
}
