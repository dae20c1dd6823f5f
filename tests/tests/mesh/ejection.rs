//! `TrafficPolicy`, ejection: who gets no requests for a while.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use maille_tests::mesh::{Mesh, NAMESPACE, ask, policy};
use maille_tests::ports;
use maille_tests::sidecar::Kind;
use maille_tests::sidecar::Plan;
use maille_tests::wait;
use serde_json::json;

for_each_kind!(
    an_endpoint_that_fails_is_left_out_and_comes_back,
    no_more_than_the_largest_share_is_left_out,
);

/// A mesh with three servers behind the label `app: pool`.
pub(crate) async fn pool(kinds: [Kind; 2]) -> anyhow::Result<Mesh> {
    let mut mesh = Mesh::of(kinds, "http", &[]).await?;
    for name in ["one", "two", "three"] {
        mesh.server(Plan::server(NAMESPACE, name, "http", ports::free()).label("app", "pool"))
            .await?;
    }
    Ok(mesh)
}

/// How many of `count` requests each server answered; those that got no 200 under their status.
pub(crate) async fn spread(
    listen: SocketAddr,
    line: &str,
    count: u32,
) -> anyhow::Result<BTreeMap<String, u32>> {
    let mut spread = BTreeMap::new();
    for _ in 0..count {
        let answer = ask(listen, line).await?;
        let who = if answer.status == 200 {
            answer.seen()?.field("server")
        } else {
            answer.status.to_string()
        };
        *spread.entry(who).or_default() += 1;
    }
    Ok(spread)
}

/// Waits until all three answer.
pub(crate) async fn all_three(listen: SocketAddr) -> anyhow::Result<()> {
    wait::until(
        "all three servers answer",
        Duration::from_secs(20),
        async || {
            let seen = spread(listen, "GET /", 30).await?;
            ensure!(
                ["one", "two", "three"]
                    .iter()
                    .all(|name| seen.contains_key(*name))
                    && seen.len() == 3,
                "{seen:?}"
            );
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}

async fn an_endpoint_that_fails_is_left_out_and_comes_back(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = pool(kinds).await?;
    let listen = mesh.service("ejecting", "pool").await?;
    let never = mesh.service("never", "pool").await?;
    let ejection = json!({"consecutiveErrors": 3, "interval": "200ms", "baseTime": "2s", "maxTime": "2s", "maxPercent": 40});
    let documents = [
        policy(
            "ejecting",
            &json!({"ejection": ejection, "balancer": {"type": "roundRobin"}}),
        ),
        policy(
            "never",
            &json!({"ejection": {"consecutiveErrors": 0}, "balancer": {"type": "roundRobin"}}),
        ),
    ];
    mesh.apply(&documents.join("\n---\n")).await?;
    all_three(listen).await?;
    all_three(never).await?;

    // One application goes bad; its health check only looks whether something listens.
    mesh.application("two").fail(true);
    wait::until(
        "the failing endpoint is left out",
        Duration::from_secs(15),
        async || {
            let seen = spread(listen, "GET /", 30).await?;
            ensure!(!seen.contains_key("500"), "{seen:?}");
            Ok::<_, anyhow::Error>(())
        },
    )
    .await?;
    let seen = spread(never, "GET /", 30).await?;
    ensure!(
        seen.get("500").is_some_and(|count| *count >= 9),
        "without ejection: {seen:?}"
    );
    ensure!(
        mesh.caller.metrics().await?.contains("eject"),
        "the metrics say nothing of it"
    );

    mesh.application("two").fail(false);
    all_three(listen).await?;
    Ok(())
}

async fn no_more_than_the_largest_share_is_left_out(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = pool(kinds).await?;
    let listen = mesh.service("bounded", "pool").await?;
    let ejection =
        json!({"consecutiveErrors": 2, "interval": "100ms", "baseTime": "60s", "maxPercent": 34});
    mesh.apply(&policy(
        "bounded",
        &json!({"ejection": ejection, "balancer": {"type": "roundRobin"}}),
    ))
    .await?;
    all_three(listen).await?;
    // All fail: one of three may be out, the others go on getting requests.
    let before: Vec<u64> = ["one", "two", "three"]
        .iter()
        .map(|name| mesh.application(name).requests())
        .collect();
    for _ in 0..60 {
        ask(listen, "GET / x-reply-status=500").await?;
    }
    let after = ["one", "two", "three"]
        .iter()
        .map(|name| mesh.application(name).requests());
    let mut grown: Vec<u64> = after
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    grown.sort_unstable();
    ensure!(
        grown[0] < 15 && grown[1] >= 15,
        "requests by server: {grown:?}"
    );
    Ok(())
}
