//! Controllers that must not start: on another cluster's disk, at a port in use, under another's name, over a damaged log. Each says what to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::cluster::Cluster;
use maille_tests::mesh::service;
use maille_tests::{process, wait};
use serde_json::json;

/// A process that refuses ends soon.
const REFUSAL_LIMIT: Duration = Duration::from_secs(20);
/// A log segment's records begin behind a page of their own for the header.
const SEGMENT_HEADER: usize = 4096;

/// Starts a controller that must end by itself with these words in its log.
async fn ends(cluster: &mut Cluster, index: usize, expected: &[&str]) -> anyhow::Result<()> {
    // What earlier ones of its name have said does not count.
    let said = cluster
        .path()
        .join(format!("{}.log", cluster.controllers[index].name));
    let said = std::fs::read_to_string(said).map_or(0, |log| log.len());
    cluster.start(index)?;
    let mut process = cluster.controllers[index]
        .process
        .take()
        .context("it was started")?;
    let status = process.ended(REFUSAL_LIMIT).await?;
    let log = process.log().split_off(said);
    ensure!(
        !status.success(),
        "it ended with success\n{}",
        process.tail()
    );
    for expected in expected {
        ensure!(
            log.contains(expected),
            "`{expected}` is not in\n{}",
            process.tail()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_refuses_what_is_not_its_own() -> anyhow::Result<()> {
    // Another cluster's data directory.
    let mut first = Cluster::found(1).await?;
    first
        .apply(&service("kept", "a", "http").to_string())
        .await?;
    first.stop(0).await?;
    let mut second = Cluster::prepare(1, |_| ()).await?;
    copy(&first.controllers[0].data(), &second.controllers[0].data())?;
    ends(&mut second, 0, &["belongs to cluster", "point dataDir to"]).await?;
    // The first is as it was.
    first.start(0)?;
    first.ready().await?;
    ensure!(first.status(0).await?.objects.values().sum::<u64>() > 0);

    // A port in use.
    let mut third = Cluster::prepare(1, |_| ()).await?;
    let port = third.controllers[0].address("xds");
    let _taken = std::net::TcpListener::bind(port)?;
    ends(&mut third, 0, &[&port.to_string(), "in use", "listen.xds"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_controllers_with_one_name_are_refused() -> anyhow::Result<()> {
    let mut cluster = Cluster::prepare(3, |_| ()).await?;
    for index in [0, 1] {
        cluster.start(index)?;
    }
    wait::until("the first two see each other", REFUSAL_LIMIT, async || {
        let logs = cluster
            .controllers
            .iter()
            .filter_map(|one| one.process.as_ref());
        let logs: Vec<String> = logs.map(process::Process::log).collect();
        let seen = logs
            .iter()
            .any(|log| log.contains("waiting for 1 more controllers"));
        ensure!(seen, "{}", logs.join("\n---\n"));
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    // The third claims the first's name.
    let own = cluster.controllers[2].config.clone();
    let mut config = own.clone();
    config["name"] = json!("c1");
    std::fs::write(cluster.config_file("c3"), format!("{config:#}"))?;
    let first = cluster.controllers[0].address("peers").to_string();
    ends(
        &mut cluster,
        2,
        &["`c1`", &first, "give each its own `name`"],
    )
    .await?;
    // The two it came to are unharmed, and found the cluster with it once it has a name of its own.
    std::fs::write(cluster.config_file("c3"), format!("{own:#}"))?;
    cluster.start(2)?;
    cluster.ready().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_refused_and_the_others_go_on() -> anyhow::Result<()> {
    let mut cluster = Cluster::found(3).await?;
    let leader = cluster.ready().await?;
    for number in 0..20 {
        cluster
            .apply(&service(&format!("s-{number}"), "a", "http").to_string())
            .await?;
    }
    cluster.agreed().await?;
    let victim = (leader + 1) % 3;
    cluster.stop(victim).await?;
    let segment = segment(&cluster.controllers[victim].data())?;
    let name = segment
        .file_name()
        .context("a name")?
        .to_string_lossy()
        .into_owned();
    let good = std::fs::read(&segment)?;
    let last = good
        .iter()
        .rposition(|byte| *byte != 0)
        .context("an empty segment")?;
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&segment, bytes)
    };
    // In the middle of the records, and in the last one: after an end in good order the mark vouches for that too.
    for at in [SEGMENT_HEADER + (last - SEGMENT_HEADER) / 2, last] {
        flipped(at)?;
        ends(
            &mut cluster,
            victim,
            &["damaged", &name, "controller token"],
        )
        .await
        .with_context(|| format!("byte {at} of {last}"))?;
    }
    cluster
        .apply(&service("after", "a", "http").to_string())
        .await?;
    // A byte behind the records is what a torn write leaves: nobody was told of it, and the controller goes on.
    flipped(last + 100)?;
    cluster.start(victim)?;
    cluster.ready().await?;
    cluster.agreed().await?;
    let log = cluster.controllers[victim]
        .process
        .as_ref()
        .context("it runs")?
        .log();
    ensure!(log.contains("removed a torn write"), "{log}");
    Ok(())
}

/// The log's first segment: it holds all that a short test writes.
fn segment(data: &Path) -> anyhow::Result<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "log")
            {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
        .into_iter()
        .next()
        .with_context(|| format!("no segment below {}", data.display()))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
