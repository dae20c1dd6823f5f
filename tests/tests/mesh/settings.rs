//! `MeshSettings`: what holds for the whole mesh, seen at sidecars, at the application and by a resolver.

use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use maille_tests::client;
use maille_tests::dns::Resolver;
use maille_tests::mesh::{Mesh, NAMESPACE, answers, ask, object, policy};
use maille_tests::ports;
use maille_tests::sidecar::{Kind, Plan, Sidecar};
use maille_tests::wait;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use xds_api::generated::maille::v1::ProxiesRequest;

use super::balancing::sticks;
use super::ejection::{pool, spread};

fn settings(spec: &Value) -> String {
    json!({
        "apiVersion": "maille.dev/v1alpha1", "kind": "MeshSettings",
        "metadata": {"name": "default"}, "spec": spec,
    })
    .to_string()
}

/// The configuration that a sidecar was told.
async fn told(sidecar: &Sidecar) -> anyhow::Result<Value> {
    let answer = client::get(sidecar.admin, "/config").await?;
    Ok(serde_json::from_str(&answer.body)?)
}

/// What a sidecar was told of plain text on one of its ports.
async fn mtls(sidecar: &Sidecar, port: u16) -> anyhow::Result<String> {
    let inbound = &told(sidecar).await?["inbound"];
    let own = inbound["ports"].get(port.to_string());
    let mode = own.unwrap_or(&inbound["default"])["mtls"].as_str();
    mode.map(str::to_owned)
        .with_context(|| format!("no mode in {inbound}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_exact_mode_holds_for_a_port() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &["one", "two"]).await?;
    mesh.server(Plan::server("else", "three", "http", ports::free()))
        .await?;
    let listen = mesh.service("one", "one").await?;
    let overrides = json!([
        {"namespace": "else", "mode": "Permissive"},
        {"namespace": NAMESPACE, "matchLabels": {"app": "two"}, "mode": "Permissive"},
        {"namespace": NAMESPACE, "ports": [81], "mode": "Permissive"},
        {"namespace": NAMESPACE, "matchLabels": {"app": "two"}, "ports": [82], "mode": "Strict"},
    ]);
    // The settings, a server, one of its ports, and what holds there.
    let strict = json!({"mtls": {"mode": "Strict", "overrides": overrides}});
    let loose = json!({"mtls": {"overrides": [{"namespace": "else", "mode": "Strict"}]}});
    let cases = [
        (&strict, "one", 80, "strict"),
        (&strict, "one", 81, "permissive"),
        (&strict, "two", 80, "permissive"),
        (&strict, "two", 82, "strict"),
        (&strict, "three", 80, "permissive"),
        (&loose, "one", 80, "permissive"),
        (&loose, "three", 80, "strict"),
    ];
    let mut wrong = Vec::new();
    for (spec, name, port, expected) in cases {
        mesh.apply(&settings(spec)).await?;
        let found = mtls(&mesh.servers[name].sidecar, port).await?;
        if found != expected {
            wrong.push(format!(
                "{name}:{port}: {found}, expected {expected}, by {spec}"
            ));
        }
        // What is mutual TLS anyway goes on whatever the mode.
        answers(listen).await?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_come_from_the_ranges_and_answers_live_as_long_as_said() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &["one"]).await?;
    let range = json!({"v4": "241.7.9.0/24", "v6": "fd00:7::/112"});
    mesh.apply(&settings(
        &json!({"vipRange": range, "dns": {"ttl": "42s"}}),
    ))
    .await?;
    mesh.services("http", &[("named", "one")]).await?;
    let resolver = Resolver::new(mesh.caller.dns).await?;
    let (v4, ttl) = resolver.v4("named.shop.mesh").await?;
    ensure!(
        v4.to_string().starts_with("241.7.9.") && ttl == 42,
        "{v4} for {ttl} s"
    );
    let (v6, ttl) = resolver.v6("named.shop.mesh").await?;
    ensure!(
        v6.to_string().starts_with("fd00:7::") && ttl == 42,
        "{v6} for {ttl} s"
    );
    mesh.apply(&settings(&json!({"vipRange": range, "dns": {"ttl": "3s"}})))
        .await?;
    let (same, ttl) = resolver.v4("named.shop.mesh").await?;
    ensure!(same == v4 && ttl == 3, "{same} for {ttl} s");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_live_as_long_as_said() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &[]).await?;
    mesh.apply(&settings(&json!({"identity": {"leafLifetime": "20m"}})))
        .await?;
    mesh.server(Plan::server(NAMESPACE, "short", "http", ports::free()))
        .await?;
    let mut admin = mesh.cluster.any().await?;
    let proxies = admin.proxies(ProxiesRequest {}).await?;
    let proxies = proxies.into_inner().proxies;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let left = |node: &str| {
        let proxy = proxies.iter().find(|proxy| proxy.node == node);
        proxy.map(|proxy| proxy.certificate_not_after - now.as_secs().cast_signed())
    };
    let short = left("shop/short").context("the server is there")?;
    let long = left("shop/caller").context("the caller is there")?;
    ensure!(
        (1_000..=1_200).contains(&short) && long > 23 * 3_600,
        "{short} s are left of the new one, {long} s of the old one"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_hold_where_no_policy_says_otherwise() -> anyhow::Result<()> {
    let mut mesh = pool([Kind::Native; 2]).await?;
    let plain = mesh.service("plain", "pool").await?;
    let own = mesh.service("own", "pool").await?;
    let defaults = json!({
        "balancer": {"type": "ringHash", "hashHeader": "x-user"},
        "retries": {"attempts": 1, "on": [409], "backoff": {"base": "1ms"}, "budget": {"percent": 100}},
        "timeout": "700ms",
        "connectTimeout": "300ms",
        "ejection": {"consecutiveErrors": 3, "interval": "200ms", "baseTime": "60s", "maxPercent": 40},
        "limits": {"maxRequests": 3},
    });
    let policy = policy(
        "own",
        &json!({"retries": {"attempts": 0}, "timeout": "0s", "limits": {"maxRequests": 50}, "ejection": {"consecutiveErrors": 0}}),
    );
    let documents = [settings(&json!({"defaults": defaults})), policy];
    mesh.apply(&documents.join("\n---\n")).await?;

    // The balancer: one user, one server.
    sticks(plain).await?;
    sticks(own).await?;
    let attempts = |key: &str| {
        let names = ["one", "two", "three"];
        let each = names.map(|name| mesh.application(name).attempts(key));
        each.iter().sum::<u64>()
    };
    for (listen, key, expected) in [(plain, "plain", 2), (own, "own", 1)] {
        ask(listen, &format!("GET / x-key={key} x-reply-status=409")).await?;
        ensure!(attempts(key) == expected, "{key}: {}", attempts(key));
    }
    for (listen, expected) in [(plain, 504), (own, 200)] {
        let answer = ask(listen, "GET / x-reply-delay=1200").await?;
        ensure!(answer.status == expected, "{}", answer.status);
    }
    for (listen, expected) in [(plain, 5), (own, 0)] {
        let mut calls = JoinSet::new();
        for _ in 0..8 {
            calls.spawn(async move { ask(listen, "GET / x-reply-delay=400").await });
        }
        let mut refused = 0;
        while let Some(call) = calls.join_next().await {
            refused += u32::from(call??.header("maille-error") == "overloaded");
        }
        ensure!(refused == expected, "{refused} of 8 were refused");
    }
    let clusters = &told(&mesh.caller).await?["clusters"];
    for name in ["plain", "own"] {
        let timeout = &clusters[format!("shop/{name}:80")]["connectTimeout"];
        ensure!(timeout == "0.3s", "{name}: {timeout}");
    }
    // Ejection: users of the bad server go elsewhere, but for those of the service that wants none.
    mesh.application("two").fail(true);
    let users = async |listen| {
        let mut failed = 0;
        for user in 0..40 {
            let seen = spread(listen, &format!("GET / x-user=user-{user}"), 1).await?;
            failed += seen.get("500").copied().unwrap_or_default();
        }
        Ok::<_, anyhow::Error>(failed)
    };
    wait::until("the bad one is out", Duration::from_secs(15), async || {
        let failed = users(plain).await?;
        ensure!(failed == 0, "{failed} of 40 failed");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let failed = users(own).await?;
    ensure!(failed > 3, "{failed} of 40 failed without ejection");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_for_one_port_wins_over_one_for_all() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &["one"]).await?;
    let listen = mesh.service("narrow", "one").await?;
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "targetPort": "main", "appProtocol": "http"});
    let ports = json!([port("first", 80), port("second", 81)]);
    let service = json!({"selector": {"app": "one"}, "ports": ports});
    mesh.apply(&object("Service", "narrow", &service)).await?;
    let target = |port: Value| json!({"name": "narrow", "port": port});
    let wide = json!({"targetRef": {"name": "narrow"}, "timeout": "300ms"});
    let other = json!({"targetRef": target(json!(81)), "timeout": "300ms"});
    let exact = json!({"targetRef": target(json!(80)), "timeout": "5s"});
    // The policies, and how a request that takes a second ends.
    let cases = [
        (vec![("wide", &wide)], 504),
        (vec![("wide", &wide), ("exact", &exact)], 200),
        (vec![("other", &other)], 200),
    ];
    for (policies, status) in cases {
        let documents = policies
            .iter()
            .map(|(name, spec)| object("TrafficPolicy", name, spec));
        mesh.apply(&documents.collect::<Vec<_>>().join("\n---\n"))
            .await?;
        let answer = ask(listen, "GET / x-reply-delay=1000").await?;
        ensure!(answer.status == status, "{policies:?}: {}", answer.status);
        for (name, _) in policies {
            mesh.delete("TrafficPolicy", name).await?;
        }
    }
    Ok(())
}
