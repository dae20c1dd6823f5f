//! Bounds of a proxy: metric series, slow peers, on-demand names, idle connections; its memory before, during and after is printed.

mod idle;
mod names;
mod peers;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use maille_tests::mesh::{Mesh, answers, ask};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A family of metrics folds its labels into `other` at 1,000 series; histograms have 14 lines a series.
const METRIC_LINES: usize = 20_000;

fn report(what: &str, before: u64, during: u64, after: u64) {
    eprintln!(
        "RSS of the proxy, {what}: before {before} KiB, during {during} KiB, after {after} KiB"
    );
}

/// One connection that sends `count` requests, each with a path and a host of its own.
async fn distinct(listen: SocketAddr, worker: usize, count: usize) -> anyhow::Result<()> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(TcpStream::connect(listen).await?))
            .await?;
    let driver = tokio::spawn(connection);
    for number in 0..count {
        sender.ready().await?;
        let request = Request::get(format!("/path-{worker}-{number}"))
            .header("host", format!("host-{worker}-{number}.test"));
        let answer = sender
            .send_request(request.body(Full::<Bytes>::default())?)
            .await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        answer.into_body().collect().await?;
    }
    driver.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_paths_and_hosts_make_no_series() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &["one"]).await?;
    let listen = mesh.service("many-paths", "one").await?;
    distinct(listen, 99, 200).await?;
    let lines = async |mesh: &Mesh| {
        let (caller, server) = (
            mesh.caller.metrics().await?,
            mesh.servers["one"].sidecar.metrics().await?,
        );
        Ok::<_, anyhow::Error>([caller.lines().count(), server.lines().count()])
    };
    let (few, before) = (lines(&mesh).await?, mesh.caller.resident_kib()?);
    let mut workers = JoinSet::new();
    for worker in 0..32 {
        workers.spawn(distinct(listen, worker, 100_000 / 32));
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let (many, after) = (lines(&mesh).await?, mesh.caller.resident_kib()?);
    report("100,000 paths and hosts", before, after, after);
    for (few, many) in few.iter().zip(many) {
        ensure!(
            many <= few + 50 && many < METRIC_LINES,
            "{few} lines of metrics became {many}"
        );
    }
    ensure!(
        after < before + 16 * 1024,
        "the proxy grew from {before} to {after} KiB"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_and_writers_hold_up_nobody_and_little_memory() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &["one"]).await?;
    let listen = mesh.service("slow", "one").await?;
    let before = mesh.caller.resident_kib()?;
    let mut held = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(listen).await?;
        // Writers that stop in the middle: of a line, of the head, of a body.
        let beginning = match number % 3 {
            0 => "GET / HT".to_owned(),
            1 => "GET / HTTP/1.1\r\nhost: a\r\nx-slow: ".to_owned(),
            _ => "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nx".to_owned(),
        };
        stream.write_all(beginning.as_bytes()).await?;
        held.push(stream);
    }
    // Readers that never read: each answer repeats a body of 1 MiB.
    let body = vec![b'a'; 1 << 20];
    for _ in 0..100 {
        let mut stream = TcpStream::connect(listen).await?;
        stream
            .write_all(
                format!(
                    "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                )
                .as_bytes(),
            )
            .await?;
        stream.write_all(&body).await?;
        held.push(stream);
    }
    for _ in 0..50 {
        let answer = tokio::time::timeout(Duration::from_secs(5), ask(listen, "GET /"))
            .await
            .context("others wait")??;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    }
    let during = mesh.caller.resident_kib()?;
    // A reader that begins at last gets all of it.
    let mut late = held.pop().context("there are some")?;
    let mut first = [0; 15];
    late.read_exact(&mut first).await?;
    ensure!(
        &first == b"HTTP/1.1 200 OK",
        "{}",
        String::from_utf8_lossy(&first)
    );
    drop((late, held));
    answers(listen).await?;
    let after = mesh.caller.resident_kib()?;
    report("200 slow writers, 100 slow readers", before, during, after);
    // 100 answers of 1 MiB would be 100 MiB; the windows of HTTP/2 and the buffers on the way are a fraction of it.
    ensure!(
        during < before + 60 * 1024,
        "the proxy grew from {before} to {during} KiB"
    );
    Ok(())
}
