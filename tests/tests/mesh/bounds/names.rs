//! On-demand names: as many as documented are kept, the others come and go at a pace and cost no memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use maille_tests::client;
use maille_tests::dns::Resolver;
use maille_tests::mesh::{Mesh, service};
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use super::report;

/// What the documentation promises for on-demand names.
const NAMES_KEPT: usize = 2_048;
/// Ten thousand names by a few resolvers: milliseconds each, in a debug build on a busy machine.
const NAMES_LIMIT: Duration = Duration::from_secs(120);
/// Resolvers that ask at the same time.
const RESOLVERS: usize = 16;
/// How often a resolver asks for one name, as real ones do.
const ASKED: usize = 4;

/// Asks the proxy for every `RESOLVERS`-th of the names `from..to`, one after the other; a question that is lost is asked again.
async fn ask_names(dns: SocketAddr, from: usize, to: usize) -> anyhow::Result<()> {
    let resolver = Resolver::new(dns).await?;
    for number in (from..to).step_by(RESOLVERS) {
        let name = format!("n-{number}.shop.mesh");
        let mut asked = 1;
        while let Err(error) = resolver.v4(&name).await {
            ensure!(asked < ASKED, "asked {asked} times: {error:#}");
            asked += 1;
        }
    }
    Ok(())
}

/// All names from `from` to `to`, by several resolvers.
async fn resolve(dns: SocketAddr, from: usize, to: usize) -> anyhow::Result<()> {
    let mut resolvers = JoinSet::new();
    for resolver in 0..RESOLVERS {
        resolvers.spawn(ask_names(dns, from + resolver, to));
    }
    while let Some(resolver) = resolvers.join_next().await {
        resolver??;
    }
    Ok(())
}

fn entries<'a>(config: &'a Value, kind: &str) -> anyhow::Result<&'a Map<String, Value>> {
    config[kind].as_object().context("the dump lists them")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_names_the_last_two_thousand_are_kept() -> anyhow::Result<()> {
    let names = 10_000;
    let mesh = Mesh::start("http", &[]).await?;
    let mut index = 0;
    for batch in 0..20 {
        let numbers = batch * names / 20..(batch + 1) * names / 20;
        let documents: Vec<String> = numbers
            .map(|number| service(&format!("n-{number}"), "nobody", "http").to_string())
            .collect();
        index = mesh.cluster.apply(&documents.join("\n---\n")).await?;
    }
    let (before, dns) = (mesh.caller.resident_kib()?, mesh.caller.dns);
    let begin = Instant::now();
    // A host and the listener of its port are a name each.
    resolve(dns, 0, NAMES_KEPT).await?;
    let full = mesh.caller.resident_kib()?;
    resolve(dns, NAMES_KEPT, names).await?;
    let (took, after) = (begin.elapsed(), mesh.caller.resident_kib()?);
    report("10,000 names", before, full, after);
    eprintln!("10,000 names took {took:?}");
    let config: Value =
        serde_json::from_str(&client::get(mesh.caller.admin, "/config").await?.body)?;
    let (hosts, listeners) = (entries(&config, "hosts")?, entries(&config, "listeners")?);
    let kept = hosts.len() + listeners.len();
    ensure!(
        kept <= NAMES_KEPT && hosts.len() > NAMES_KEPT / 4,
        "{} hosts and {} listeners are kept",
        hosts.len(),
        listeners.len()
    );
    ensure!(
        hosts.keys().any(|name| name.contains("n-9999"))
            && !hosts.keys().any(|name| name.ends_with("/n-0.shop"))
    );
    // What a name that went has reached goes too, also while others come.
    for kind in ["routes", "clusters", "endpoints"] {
        let count = entries(&config, kind)?.len();
        ensure!(count < hosts.len() + 1_400, "{count} {kind} are held");
    }
    ensure!(took < NAMES_LIMIT, "it took {took:?}");
    ensure!(
        after < full + 8 * 1024,
        "with all names kept it had {full} KiB, after five times as many {after}"
    );
    mesh.caller.clean(&mesh.cluster, index).await?;
    Ok(())
}
