//! Which page is where, what it says, and what it refuses.
#![allow(clippy::unwrap_used)]

use super::pages::{Admin, Scope, Workload, Workloads};
use crate::metrics::Metrics;
use crate::supervise::Readiness;
use crate::telemetry;
use crate::xds::tests::World;
use ::http::Request;
use http_body_util::BodyExt;
use std::sync::{Arc, LazyLock};

/// The log can be set up once a process.
static LOG: LazyLock<telemetry::LogLevel> = LazyLock::new(telemetry::LogLevel::for_test);

async fn ask(admin: &Admin, scope: Scope, method: &str, path: &str, body: &str) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(())
        .unwrap();
    let response = admin.answer(scope, &request.into_parts().0, body.as_bytes());
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn admin(world: &World) -> (Admin, crate::xds::tests::Life) {
    world.service();
    let life = world.start();
    let identity = life.identity.clone();
    life.call().await;
    let admin = Admin {
        readiness: Readiness::default(),
        metrics: Metrics::new(),
        log: LOG.clone(),
        workloads: Workloads::One(Workload {
            identity,
            xds: life.xds.clone(),
        }),
        configuration: "egress: allow\n".into(),
        drain: Arc::default(),
    };
    (admin, life)
}

#[tokio::test]
async fn every_page_answers_where_it_should() {
    let world = World::new().await;
    let (admin, _life) = admin(&world).await;
    let table = [
        ("GET", "/ready", 200, 200),
        ("GET", "/live", 200, 200),
        ("GET", "/metrics", 200, 200),
        ("GET", "/config", 200, 404),
        ("GET", "/status", 200, 404),
        ("GET", "/settings", 200, 404),
        ("GET", "/certificates", 200, 404),
        ("GET", "/log-level", 200, 404),
        ("POST", "/drain", 202, 404),
        ("GET", "/drain", 405, 404),
        ("DELETE", "/config", 405, 404),
        ("GET", "/else", 404, 404),
    ];
    for (method, path, loopback, everywhere) in table {
        let found = ask(&admin, Scope::Loopback, method, path, "").await.0;
        assert_eq!(found, loopback, "{method} {path} on the loopback");
        let found = ask(&admin, Scope::Everywhere, method, path, "").await.0;
        assert_eq!(found, everywhere, "{method} {path} everywhere");
    }
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let world = World::new().await;
    let (admin, _life) = admin(&world).await;
    let pending = admin.readiness.wait_for("a certificate");
    let (status, text) = ask(&admin, Scope::Everywhere, "GET", "/ready", "").await;
    assert_eq!(
        (status, text.as_str()),
        (503, "waiting for: a certificate\n")
    );
    drop(pending);
    assert_eq!(
        ask(&admin, Scope::Everywhere, "GET", "/ready", "").await.0,
        200
    );
}

#[tokio::test]
async fn the_configuration_is_shown_whole_and_without_secrets() {
    let world = World::new().await;
    let (admin, _life) = admin(&world).await;
    let (_, config) = ask(&admin, Scope::Loopback, "GET", "/config", "").await;
    let shown: serde_json::Value = serde_json::from_str(&config).unwrap();
    insta::assert_json_snapshot!(shown);
    let (_, certificates) = ask(&admin, Scope::Loopback, "GET", "/certificates", "").await;
    let shown: serde_json::Value = serde_json::from_str(&certificates).unwrap();
    assert_eq!(shown["identity"], "spiffe://mesh.test/ns/shop/sa/web");
    assert_eq!(shown["chain"].as_array().unwrap().len(), 1);
    assert!(!certificates.to_lowercase().contains("key"));
}

#[tokio::test]
async fn the_log_level_is_changed_and_a_wrong_one_refused() {
    let world = World::new().await;
    let (admin, _life) = admin(&world).await;
    let (status, _) = ask(&admin, Scope::Loopback, "PUT", "/log-level", "debug\n").await;
    assert_eq!(status, 200);
    let (_, level) = ask(&admin, Scope::Loopback, "GET", "/log-level", "").await;
    assert_eq!(level, "debug\n");
    let (status, text) = ask(&admin, Scope::Loopback, "PUT", "/log-level", "=,=").await;
    assert_eq!(status, 400, "{text}");
}

#[tokio::test]
async fn a_web_page_cannot_ask() {
    let world = World::new().await;
    let (admin, _life) = admin(&world).await;
    let request = Request::post("/drain").header("origin", "http://example.org");
    let head = request.body(()).unwrap().into_parts().0;
    assert_eq!(admin.answer(Scope::Loopback, &head, b"").status(), 403);
}

#[tokio::test]
async fn several_workloads_stand_under_their_names() {
    let world = World::new().await;
    let (mut admin, life) = admin(&world).await;
    let workload = || Workload {
        identity: life.identity.clone(),
        xds: life.xds.clone(),
    };
    let names = ["shop/api", "shop/web"].map(str::to_owned);
    let several = names.map(|name| (name, workload())).into();
    let (_, alone) = ask(&admin, Scope::Loopback, "GET", "/certificates", "").await;
    admin.workloads = Workloads::Several(several);
    let parsed = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let (_, certificates) = ask(&admin, Scope::Loopback, "GET", "/certificates", "").await;
    let shown = parsed(certificates);
    assert_eq!(shown["workloads"]["shop/web"], parsed(alone));
    let (_, status) = ask(&admin, Scope::Loopback, "GET", "/status", "").await;
    let shown = parsed(status);
    assert_eq!(shown["version"], env!("CARGO_PKG_VERSION"));
    let identity = &shown["workloads"]["shop/api"]["identity"];
    assert_eq!(identity, "spiffe://mesh.test/ns/shop/sa/web");
    let (_, config) = ask(&admin, Scope::Loopback, "GET", "/config", "").await;
    assert!(parsed(config)["workloads"]["shop/api"]["inbound"].is_object());
}
