//! What an administrator's certificate lets its holder do, and that every refusal is on the record.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::binaries::Binaries;
use maille_tests::client;
use maille_tests::cluster::Cluster;
use maille_tests::identity;
use maille_tests::mesh::service;
use maille_tests::process::{Finished, run};
use maille_tests::stream::{self, Stream};
use xds_api::type_url::TypeUrl;

const LIMIT: Duration = Duration::from_secs(60);

/// Makes a certificate with these arguments; answers its directory.
async fn grant(cluster: &Cluster, name: &str, arguments: &[&str]) -> anyhow::Result<PathBuf> {
    let directory = cluster.path().join(name);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let endpoint = cluster.controllers[0].address("admin").to_string();
    let mut all = vec![
        "admin-certificate".to_owned(),
        "--secrets".into(),
        text(&cluster.path().join("secrets")),
        "--admin-dir".into(),
        text(&directory),
        "--admin-name".into(),
        name.to_owned(),
        "--endpoint".into(),
        endpoint,
    ];
    all.extend(arguments.iter().map(|&one| one.to_owned()));
    let done = run(&Binaries::get().controller(), &all, LIMIT).await?;
    ensure!(done.code == Some(0), "{done:?}");
    Ok(directory)
}

async fn by(directory: &Path, arguments: &[&str]) -> anyhow::Result<Finished> {
    let directory = directory.to_string_lossy();
    let all: Vec<&str> = ["--admin", &directory]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    run(&Binaries::get().cli(), &all, LIMIT).await
}

fn refused(done: &Finished, words: &str) -> anyhow::Result<()> {
    ensure!(
        done.code != Some(0) && done.err.contains(words),
        "{words}: {done:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_reaches_as_far_as_its_role_and_every_refusal_is_recorded()
-> anyhow::Result<()> {
    let cluster = Cluster::found(1).await?;
    let file = cluster.path().join("service.yaml");
    std::fs::write(&file, format!("{:#}", service("app", "app", "http")))?;
    let file = file.to_str().context("a path of the test's")?;
    let viewer = grant(&cluster, "vera", &["--role", "viewer"]).await?;
    let shop = ["--role", "editor", "--namespace", "shop"];
    let editor = grant(&cluster, "ed", &shop).await?;
    let elsewhere = ["--role", "editor", "--namespace", "other"];
    let other = grant(&cluster, "otto", &elsewhere).await?;

    refused(
        &by(&viewer, &["apply", "-f", file]).await?,
        "has the role viewer; this takes editor",
    )?;
    refused(
        &by(&other, &["apply", "-f", file]).await?,
        "reaches other, not the namespace shop",
    )?;
    let applied = by(&editor, &["apply", "-f", file]).await?;
    ensure!(applied.code == Some(0), "{applied:?}");
    let seen = by(&viewer, &["get", "services", "-A"]).await?;
    ensure!(seen.out.contains("app"), "{seen:?}");
    refused(
        &by(&editor, &["get", "services", "-A"]).await?,
        "not all namespaces at once",
    )?;
    let token = ["token", "create", "--controller"];
    refused(&by(&editor, &token).await?, "this takes admin")?;
    let backup = cluster.path().join("backup").to_string_lossy().into_owned();
    refused(
        &by(&viewer, &["snapshot", "save", &backup]).await?,
        "this takes admin",
    )?;

    // And one at the other port: a workload that says that it is another.
    let stranger = identity::obtain(&cluster, "shop", "stranger")
        .await?
        .tls(b"h2")?;
    let xds = cluster.controllers[0].address("xds");
    let mut stream = Stream::open(stranger, xds).await?;
    let mut first = stream::subscribe(TypeUrl::Listener, &["out/app.shop:80"]);
    first.node = Some(stream::node("shop/app", "app"));
    stream.send(&first)?;
    let status = stream.ended().await;
    ensure!(status.code() == tonic::Code::PermissionDenied, "{status:?}");

    let process = cluster.controllers[0].process.as_ref().context("it runs")?;
    let log = process.log();
    for (who, words) in [
        ("spiffe://mesh.test/admin/vera", "this takes editor"),
        ("spiffe://mesh.test/admin/otto", "not the namespace shop"),
        ("spiffe://mesh.test/ns/shop/sa/stranger", "cannot be"),
    ] {
        let on_record = |line: &str| {
            line.contains("audit: refused") && line.contains(who) && line.contains(words)
        };
        ensure!(log.lines().any(on_record), "{who}: {}", process.tail());
    }
    let health = cluster.controllers[0].address("health");
    let metrics = client::get(health, "/metrics").await?.body;
    let counted = |port: &str, count: u32| {
        metrics.contains(&format!("refusals_total{{port=\"{port}\"}} {count}\n"))
    };
    ensure!(counted("admin", 5) && counted("xds", 1), "{metrics}");
    Ok(())
}
