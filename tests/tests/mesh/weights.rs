//! `HTTPRoute`, backends: who gets which share.

use std::collections::BTreeMap;

use anyhow::ensure;
use maille_tests::mesh::{Mesh, answers, ask, route};
use maille_tests::sidecar::Kind;
use serde_json::{Value, json};

for_each_kind!(
    backends_get_their_shares,
    a_service_without_endpoints_is_unavailable_and_one_that_comes_is_used,
);

/// At a true share of 10 % the standard deviation of 2,000 draws is 0.7 points: five of them are 3.4.
const REQUESTS: usize = 2_000;
const TOLERANCE: f64 = 0.034;

/// A name, the backends, and who gets which share.
type Case = (&'static str, Vec<Value>, &'static [(&'static str, f64)]);

/// Shares by who answered; an answer of the proxy's own counts by its status.
async fn shares(
    listen: std::net::SocketAddr,
    requests: usize,
) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..requests {
        let answer = ask(listen, "GET /").await?;
        let who = if answer.status == 200 {
            answer.seen()?.field("server")
        } else {
            answer.status.to_string()
        };
        *counts.entry(who).or_default() += 1;
    }
    Ok(counts
        .into_iter()
        .map(|(who, count)| (who, count as f64 / requests as f64))
        .collect())
}

async fn backends_get_their_shares(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one", "two", "three"]).await?;
    let backend = |name: &str, weight: Option<u32>| match weight {
        Some(weight) => json!({"name": name, "port": 80, "weight": weight}),
        None => json!({"name": name, "port": 80}),
    };
    let cases: Vec<Case> = vec![
        (
            "split",
            vec![backend("one", Some(90)), backend("two", Some(10))],
            &[("one", 0.9), ("two", 0.1)],
        ),
        (
            "default",
            vec![
                backend("one", None),
                backend("two", Some(1)),
                backend("three", Some(2)),
            ],
            &[("one", 0.25), ("two", 0.25), ("three", 0.5)],
        ),
        (
            "zero",
            vec![backend("one", Some(0)), backend("two", Some(7))],
            &[("two", 1.0)],
        ),
        (
            "half-empty",
            vec![backend("one", Some(3)), backend("empty", Some(1))],
            &[("one", 0.75), ("503", 0.25)],
        ),
        ("empty-only", vec![backend("empty", None)], &[("503", 1.0)]),
        ("none", vec![], &[("500", 1.0)]),
    ];
    let services: Vec<(&str, &str)> = cases
        .iter()
        .map(|case| (case.0, "one"))
        .chain([("one", "one"), ("two", "two"), ("three", "three")])
        .collect();
    let listeners = mesh.services("http", &services).await?;
    mesh.services("http", &[("empty", "nobody")]).await?;
    for listen in &listeners {
        answers(*listen).await?;
    }
    let routes: Vec<String> = cases
        .iter()
        .map(|(name, backends, _)| route(name, &json!([{"backendRefs": backends}])))
        .collect();
    mesh.apply(&routes.join("\n---\n")).await?;
    for ((name, _, expected), listen) in cases.iter().zip(&listeners) {
        let certain = expected.len() == 1;
        let found = shares(*listen, if certain { 50 } else { REQUESTS }).await?;
        let tolerance = if certain { 0.0 } else { TOLERANCE };
        let good = expected.iter().all(|(who, share)| {
            (found.get(*who).copied().unwrap_or_default() - share).abs() <= tolerance
        });
        ensure!(
            good && found.len() == expected.len(),
            "{name}: expected {expected:?}, found {found:?}"
        );
    }
    Ok(())
}

async fn a_service_without_endpoints_is_unavailable_and_one_that_comes_is_used(
    kinds: [Kind; 2],
) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &[]).await?;
    let listen = mesh.services("http", &[("empty", "late")]).await?[0];
    let answer = ask(listen, "GET /").await?;
    ensure!(answer.status == 503, "{} {}", answer.status, answer.body);
    let plan = maille_tests::sidecar::Plan::server(
        maille_tests::mesh::NAMESPACE,
        "late",
        "http",
        maille_tests::ports::free(),
    );
    mesh.server(plan).await?;
    answers(listen).await?;
    ensure!(mesh.application("late").requests() > 0);
    Ok(())
}
