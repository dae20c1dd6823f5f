//! Opaque bytes through a pair: server-first protocols, half-closes, resets, the application's own TLS.
#![allow(clippy::unwrap_used)]

use crate::snapshot::Protocol;
use crate::testing::apps::{self, LIMIT, mirror};
use crate::testing::pair::{CLIENT, Pair};
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Greets, then answers everything at the end of what it was sent.
async fn greet(mut stream: TcpStream) {
    stream.write_all(b"220 ready\r\n").await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.ok();
    stream.write_all(&said).await.ok();
}

async fn half_close(pair: &Pair) {
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    client.write_all(b"EHLO me\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = String::new();
    tokio::time::timeout(LIMIT, client.read_to_string(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, "EHLO me\r\n");
}

#[tokio::test]
async fn a_server_first_protocol_and_its_half_close_pass() {
    for protocol in [Protocol::Tcp, Protocol::Detect] {
        let pair = Pair::new(apps::raw(greet), protocol).await;
        half_close(&pair).await;
        let open = ["inbound", r#"protocol="tcp""#, r#"tls="mesh""#, CLIENT];
        assert_eq!(pair.server.count("maille_connections_total", &open), 1.0);
        apps::eventually("both sides closed", || {
            pair.server.count("maille_connections_open", &[])
                + pair.client.count("maille_connections_open", &[])
                == 0.0
        })
        .await;
        assert_eq!(pair.client.count("maille_read_bytes_total", &[]), 9.0);
        assert_eq!(pair.client.count("maille_written_bytes_total", &[]), 20.0);
    }
}

#[tokio::test]
async fn server_first_on_an_undeclared_port_costs_a_moment_once() {
    let pair = Pair::new(apps::raw(greet), Protocol::Detect).await;
    half_close(&pair).await;
    let started = Instant::now();
    half_close(&pair).await;
    let learnt = started.elapsed();
    println!("time of a server-first exchange once learnt: {learnt:?}");
    assert!(learnt < crate::opening::HEAD_START * 100, "{learnt:?}");
}

#[tokio::test]
async fn an_http_client_that_connects_early_and_speaks_late_is_still_http() {
    let pair = Pair::new(mirror(), Protocol::Detect).await;
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    // The server was connected meanwhile: the client has been silent for longer than it had to be.
    apps::eventually("the tentative connection", || {
        pair.server.count("maille_tls_handshakes_total", &[]) > 0.0
    })
    .await;
    client
        .write_all(b"GET /late HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("GET /late HTTP/1.1\n"), "{answer}");
    assert_eq!(pair.client.count("maille_detected_total", &["http1"]), 1.0);
}

#[tokio::test]
async fn the_applications_own_tls_passes_untouched() {
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03";
    let app = apps::raw(|mut stream| async move {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        stream.write_all(&said).await.unwrap();
    });
    let pair = Pair::new(app, Protocol::Detect).await;
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    client.write_all(hello).await.unwrap();
    client.shutdown().await.unwrap();
    let mut echo = Vec::new();
    client.read_to_end(&mut echo).await.unwrap();
    assert_eq!(echo, hello);
    assert_eq!(pair.client.count("maille_detected_total", &["tls"]), 1.0);
}

#[tokio::test]
async fn a_reset_stays_a_reset_in_both_directions() {
    let app = apps::raw(|mut stream| async move {
        stream.read_exact(&mut [0; 1]).await.unwrap();
        crate::net::reset(stream);
    });
    let pair = Pair::new(app, Protocol::Tcp).await;
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    client.write_all(b"x").await.unwrap();
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let (sender, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let app = apps::raw(move |mut stream| {
        let sender = sender.clone();
        async move {
            stream.write_all(b"x").await.unwrap();
            sender
                .send(stream.read(&mut [0; 1]).await.map_err(|error| error.kind()))
                .unwrap();
        }
    });
    let pair = Pair::new(app, Protocol::Tcp).await;
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    client.read_exact(&mut [0; 1]).await.unwrap();
    crate::net::reset(client);
    assert_eq!(ends.recv().await.unwrap(), Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn bulk_passes_whole() {
    let app = apps::raw(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.ok();
        write.shutdown().await.ok();
    });
    let pair = Pair::new(app, Protocol::Tcp).await;
    let stream = TcpStream::connect(pair.listen).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let bytes: Vec<u8> = (0..10_000_000_u32)
        .map(|number| (number / 11) as u8)
        .collect();
    let sent = bytes.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut echo = Vec::new();
    read.read_to_end(&mut echo).await.unwrap();
    writing.await.unwrap();
    assert!(
        echo == bytes,
        "{} of {} bytes, or others",
        echo.len(),
        bytes.len()
    );
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_a_reset() {
    let pair = Pair::new(crate::testing::pair::free(), Protocol::Tcp).await;
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
