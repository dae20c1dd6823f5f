//! Idle connections: what each costs while it is there, and that all of it is given back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use maille_tests::mesh::{Mesh, answers, ask};
use maille_tests::process::Process;
use maille_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::report;

/// What a connection may cost that has said nothing: its socket and a task of two kilobytes.
const SILENT_KIB: u64 = 5;
/// One that has had a request too: HTTP/1's two buffers of 8 KiB and the room for the next request.
const KEPT_KIB: u64 = 40;
/// Freed memory is given back within seconds; the machine may be busy.
const REST_LIMIT: Duration = Duration::from_secs(60);
/// What a process that has been busy keeps: pools, metrics, the allocator's own.
const REST_KIB: u64 = 8 * 1024;

/// The sockets that the proxy has open, among other descriptors.
fn descriptors(mesh: &Mesh) -> anyhow::Result<usize> {
    let process = mesh.caller.process.as_ref();
    let pid = process.and_then(Process::pid).context("it runs")?;
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// One request on a connection; its answer is left unread but for the beginning.
async fn greet(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await?;
    let mut first = [0; 15];
    tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut first)).await??;
    ensure!(&first == b"HTTP/1.1 200 OK", "{}", first.escape_ascii());
    Ok(())
}

/// Opens connections and holds them, closes them, and checks what each cost and that it is given back.
async fn hold(
    mesh: &Mesh,
    listen: SocketAddr,
    count: usize,
    talk: bool,
    each: u64,
) -> anyhow::Result<()> {
    let before = mesh.caller.resident_kib()?;
    let mut idle = Vec::with_capacity(count);
    for number in 0..count {
        let mut stream = TcpStream::connect(listen)
            .await
            .with_context(|| format!("connection {number}"))?;
        if talk {
            greet(&mut stream).await?;
        }
        idle.push(stream);
    }
    // The last has been accepted when it is answered.
    if !talk {
        greet(idle.last_mut().context("there are some")?).await?;
    }
    let during = mesh.caller.resident_kib()?;
    let begin = Instant::now();
    answers(listen).await?;
    ensure!(
        begin.elapsed() < Duration::from_secs(2),
        "an answer after {:?}",
        begin.elapsed()
    );
    drop(idle);
    let closed = wait::until("the proxy has closed them", REST_LIMIT, async || {
        // Life goes on: the allocator looks at what is free when somebody asks for memory.
        for _ in 0..20 {
            ask(listen, "GET /").await?;
        }
        let (open, after) = (descriptors(mesh)?, mesh.caller.resident_kib()?);
        ensure!(
            open < 400 && after < before + REST_KIB,
            "{open} descriptors are open, {after} KiB are resident, {before} before"
        );
        Ok::<_, anyhow::Error>(after)
    });
    let after = closed.await;
    let what = if talk { "kept-alive" } else { "silent" };
    let last = mesh.caller.resident_kib()?;
    report(&format!("{count} {what} connections"), before, during, last);
    after?;
    ensure!(
        during < before + each * count as u64 + 4 * 1024,
        "the proxy grew from {before} to {during} KiB"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_cost_little_and_go() -> anyhow::Result<()> {
    let mut mesh = Mesh::start("http", &["one"]).await?;
    let listen = mesh.service("idle", "one").await?;
    hold(&mesh, listen, 10_000, false, SILENT_KIB).await?;
    hold(&mesh, listen, 2_000, true, KEPT_KIB).await
}
