//! Bounds of a proxy: metric series, on-demand names, slow peers and idle connections; its memory before, during and after is printed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use maille_tests::client;
use maille_tests::mesh::{Mesh, answers, ask, service};
use maille_tests::wait;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// What the documentation promises for on-demand names.
const NAMES_KEPT: usize = 2_048;
/// A family of metrics folds its labels into `other` at 1,000 series; histograms have 14 lines a series.
const METRIC_LINES: usize = 20_000;
/// What an idle connection may cost: its buffers on both sides and its task.
const IDLE_KIB: u64 = 32;
/// A measurement of a process under load is followed by one when it has come to rest.
const REST_LIMIT: Duration = Duration::from_secs(60);

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

/// A question for the A record of `name`.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).expect("labels of these tests are short"));
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// Asks the proxy for names `from..to` one after the other; a question that is lost is asked again.
async fn ask_names(dns: SocketAddr, from: usize, to: usize) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(dns).await?;
    let mut answer = [0; 512];
    for number in from..to {
        let name = format!("n-{number}.shop.mesh");
        wait::until(&name, Duration::from_secs(30), async || {
            socket.send(&question(1, &name)).await?;
            let length =
                tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut answer)).await??;
            ensure!(
                length > 12 && answer[3] & 15 == 0 && answer[7] == 1,
                "no address: {:?}",
                &answer[..12]
            );
            Ok::<_, anyhow::Error>(())
        })
        .await?;
    }
    Ok(())
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
    let before = mesh.caller.resident_kib()?;
    let dns = mesh.caller.dns;
    ask_names(dns, 0, NAMES_KEPT).await?;
    let full = mesh.caller.resident_kib()?;
    ask_names(dns, NAMES_KEPT, names).await?;
    let after = mesh.caller.resident_kib()?;
    report("10,000 names", before, full, after);
    let config: Value =
        serde_json::from_str(&client::get(mesh.caller.admin, "/config").await?.body)?;
    for kind in ["hosts", "listeners"] {
        let kept = config[kind]
            .as_object()
            .map(serde_json::Map::len)
            .context("the dump lists them")?;
        ensure!(
            kept <= NAMES_KEPT && kept > NAMES_KEPT / 4,
            "{kept} {kind} are kept"
        );
    }
    let hosts = config["hosts"]
        .as_object()
        .context("the dump lists hosts")?;
    ensure!(
        hosts.keys().any(|name| name.contains("n-9999"))
            && !hosts.keys().any(|name| name.ends_with("/n-0.shop"))
    );
    ensure!(
        after < full + 8 * 1024,
        "with all names kept it had {full} KiB, after five times as many {after}"
    );
    mesh.caller.clean(&mesh.cluster, index).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_cost_little_and_go() -> anyhow::Result<()> {
    let count = 10_000;
    let mut mesh = Mesh::start("http", &["one"]).await?;
    let listen = mesh.service("idle", "one").await?;
    let before = mesh.caller.resident_kib()?;
    let mut idle = Vec::with_capacity(count);
    for number in 0..count {
        let stream = TcpStream::connect(listen)
            .await
            .with_context(|| format!("connection {number}"))?;
        idle.push(stream);
    }
    // The last has been accepted when it is answered.
    let last = idle.last_mut().context("there are some")?;
    last.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
    let mut first = [0; 15];
    tokio::time::timeout(Duration::from_secs(20), last.read_exact(&mut first)).await??;
    let during = mesh.caller.resident_kib()?;
    let begin = std::time::Instant::now();
    let answer = ask(listen, "GET /").await?;
    ensure!(
        answer.status == 200 && begin.elapsed() < Duration::from_secs(2),
        "{} after {:?}",
        answer.status,
        begin.elapsed()
    );
    drop(idle);
    let open = wait::until("the proxy has closed them", REST_LIMIT, async || {
        let pid = mesh
            .caller
            .process
            .as_ref()
            .and_then(maille_tests::process::Process::pid)
            .context("it runs")?;
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        ensure!(open < 200, "{open} descriptors are open");
        Ok::<_, anyhow::Error>(open)
    })
    .await?;
    let after = mesh.caller.resident_kib()?;
    report("10,000 idle connections", before, during, after);
    ensure!(
        during < before + IDLE_KIB * count as u64,
        "the proxy grew from {before} to {during} KiB"
    );
    ensure!(
        after < before + (during - before) / 2 + 16 * 1024,
        "from {during} KiB it came down to {after} only, with {open} descriptors open"
    );
    Ok(())
}
