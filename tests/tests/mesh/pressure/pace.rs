//! New connections come at a pace: what is beyond it waits, and costs the controllers no election.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use maille_tests::cluster::Cluster;
use maille_tests::identity;
use maille_tests::mesh::service;
use serde_json::json;
use tokio::task::JoinSet;

/// New connections a second, and at once after a quiet time.
const PER_SECOND: u32 = 20;
const BURST: u32 = 10;
/// All at once.
const CONNECTIONS: u32 = 90;

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_connections_is_taken_at_the_pace_that_is_set() -> anyhow::Result<()> {
    let mut cluster = Cluster::found_with(3, |config| {
        config["acceptPerSecond"] = json!(PER_SECOND);
        config["acceptBurst"] = json!(BURST);
    })
    .await?;
    let tls = identity::obtain(&cluster, "bench", "storm")
        .await?
        .tls(b"h2")?;
    let leader = cluster.ready().await?;
    let server = cluster.controllers[leader].address("xds");
    let terms: Vec<u64> = cluster
        .statuses()
        .await?
        .iter()
        .map(|one| one.term)
        .collect();
    let begin = Instant::now();
    let mut storm = JoinSet::new();
    for _ in 0..CONNECTIONS {
        storm.spawn(identity::secure(
            server,
            tls.clone(),
            "maille-controller".to_owned(),
        ));
    }
    // What is written meanwhile is not held up by those who wait.
    let document = format!("{:#}", service("app", "app", "http"));
    cluster.apply_at(leader, &document).await?;
    let written = begin.elapsed();
    let mut open = Vec::new();
    while let Some(connection) = storm.join_next().await {
        open.push(connection?.context("a connection of the storm")?);
    }
    let taken = begin.elapsed();
    eprintln!("{CONNECTIONS} connections in {taken:?}, a write beside them in {written:?}");
    // It is a lower bound: a busy machine only takes longer.
    let least = Duration::from_secs_f64(f64::from(CONNECTIONS - BURST) / f64::from(PER_SECOND));
    ensure!(
        taken + Duration::from_millis(100) >= least,
        "{taken:?}, not {least:?}"
    );
    ensure!(written < taken, "the write took as long as the storm");
    let after: Vec<u64> = cluster
        .statuses()
        .await?
        .iter()
        .map(|one| one.term)
        .collect();
    ensure!(
        terms == after,
        "there was an election: {terms:?}, {after:?}"
    );
    Ok(())
}
