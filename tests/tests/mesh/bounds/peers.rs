//! Distinct callers: each has a certificate of its own, and together they make no more series than a family may have.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, ensure};
use h2::client::SendRequest;
use hyper::Request;
use hyper::body::Bytes;
use maille_tests::identity::{self, Caller};
use maille_tests::mesh::Mesh;
use tokio::task::JoinSet;

use super::{METRIC_LINES, report};

/// More than the 1,000 series of a family, and few enough for each to get a certificate from a real controller within seconds. `PEERS` in the
/// environment asks for more, below the 100,000 tokens that a mesh may have.
const PEERS: usize = 1_500;
/// Callers at the same time.
const WORKERS: usize = 8;

/// A caller of its own identity asks the application once, over `maille/1`.
async fn call(mesh_port: SocketAddr, caller: &Caller) -> anyhow::Result<()> {
    let tls = caller.connect(mesh_port, "80.maille", b"maille/1").await?;
    let (send, connection) = h2::client::handshake(tls).await?;
    let driver = tokio::spawn(connection);
    let status = ask(send).await?;
    driver.abort();
    ensure!(status == 200, "{}: {status}", caller.account);
    Ok(())
}

async fn ask(send: SendRequest<Bytes>) -> anyhow::Result<u16> {
    let mut send = send.ready().await?;
    let request = Request::get("/")
        .header("host", "one")
        .header("maille-port", "80");
    let (answer, _) = send.send_request(request.body(())?, true)?;
    let (head, mut body) = answer.await?.into_parts();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    Ok(head.status.as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_callers_than_series_are_folded_into_one() -> anyhow::Result<()> {
    let peers = match std::env::var("PEERS") {
        Ok(number) => number.parse().context("PEERS is a number")?,
        Err(_) => PEERS,
    };
    let mesh = Arc::new(Mesh::start("http", &["one"]).await?);
    let server = &mesh.servers["one"].sidecar;
    let before = server.resident_kib()?;
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let mesh = Arc::clone(&mesh);
        workers.spawn(async move {
            for number in (worker..peers).step_by(WORKERS) {
                let caller = identity::obtain(&mesh.cluster, "shop", &format!("peer-{number}"))
                    .await
                    .with_context(|| format!("caller {number}"))?;
                call(mesh.servers["one"].sidecar.mesh, &caller).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let (metrics, after) = (server.metrics().await?, server.resident_kib()?);
    report(&format!("{peers} callers"), before, after, after);
    let lines = metrics.lines().count();
    ensure!(lines < METRIC_LINES, "{lines} lines of metrics");
    let series = |parts: &[&str]| {
        let of = |line: &&str| parts.iter().all(|part| line.contains(part));
        metrics.lines().filter(of).count()
    };
    let own = series(&["maille_requests_total{", "sa/peer-"]);
    let shared = series(&["maille_requests_total{", "peer=\"other\""]);
    ensure!(
        (900..=1_000).contains(&own) && shared == 1,
        "{own} series of single callers, {shared} of the others"
    );
    ensure!(
        after < before + 16 * 1024,
        "the proxy grew from {before} to {after} KiB"
    );
    Ok(())
}
