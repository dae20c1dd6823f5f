//! When the way to the service breaks: dead endpoints, wrong identities, limits, drains, interim answers.
#![allow(clippy::unwrap_used)]

use crate::snapshot::{MeshAddress, MeshForm, Protocol};
use crate::testing::apps::{self, LIMIT, ask, eventually, get, mirror};
use crate::testing::pair::{Pair, endpoint, free};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

#[tokio::test]
async fn a_dead_endpoint_costs_no_request() {
    let app = mirror();
    let pair = Pair::new(app, Protocol::Http1).await;
    let dead = endpoint(app, Some(free().port()));
    let mut other = endpoint(free(), None);
    other.workload = "api-2".into();
    pair.endpoints(vec![dead, other, endpoint(app, Some(pair.mesh.port()))]);
    for _ in 0..50 {
        assert_eq!(get(pair.listen, "/").await.0, 200);
    }
}

#[tokio::test]
async fn another_identity_at_the_endpoint_is_refused_and_never_spoken_to_in_plain_text() {
    let app = mirror();
    let pair = Pair::new(app, Protocol::Http1).await;
    let mut wrong = endpoint(app, None);
    wrong.mesh = Some(MeshAddress {
        port: pair.mesh.port(),
        form: MeshForm::Native,
        identity: "spiffe://mesh.test/ns/demo/sa/other".into(),
    });
    pair.endpoints(vec![wrong]);
    let answer = ask(
        pair.listen,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("maille-error: tls\r\n"),
        "{answer}"
    );
    assert_eq!(
        pair.client
            .count("maille_tls_handshakes_total", &["client", "failed"]),
        1.0
    );
    let (sender, mut called) = mpsc::unbounded_channel();
    let plain = apps::raw(move |_| {
        sender.send(()).unwrap();
        std::future::ready(())
    });
    // Something that speaks no TLS stands where the mesh port should be.
    pair.endpoints(vec![endpoint(app, Some(plain.port()))]);
    assert_eq!(get(pair.listen, "/").await.0, 503);
    assert!(
        called.try_recv().is_ok(),
        "it was called, and got a ClientHello at most"
    );
}

#[tokio::test]
async fn too_much_is_answered_at_once() {
    let (sender, mut started) = mpsc::unbounded_channel();
    let app = apps::http(move |_| {
        sender.send(()).unwrap();
        std::future::pending::<Response<Full<Bytes>>>()
    });
    let pair = Pair::new(app, Protocol::Http1).await;
    pair.cluster(|cluster| cluster.limits.max_requests = Some(1));
    let mut first = TcpStream::connect(pair.listen).await.unwrap();
    first
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    started.recv().await.unwrap();
    let second = ask(
        pair.listen,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(
        second.starts_with("HTTP/1.1 503 ") && second.contains("maille-error: overloaded\r\n"),
        "{second}"
    );
}

#[tokio::test]
async fn endpoints_are_replaced_under_load_without_a_failure() {
    let (first, second) = (mirror(), mirror());
    let pair = Pair::new(first, Protocol::Http1).await;
    for number in 0..40 {
        let address = if number % 2 == 0 { first } else { second };
        pair.endpoints(vec![endpoint(address, Some(pair.mesh.port()))]);
        assert_eq!(get(pair.listen, "/").await.0, 200, "after change {number}");
    }
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let (sender, mut started) = mpsc::unbounded_channel();
    let app = apps::http(move |_| {
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        sender.send(release).unwrap();
        async move {
            released.await.unwrap();
            Response::new(Full::new(Bytes::from_static(b"done")))
        }
    });
    let pair = Pair::new(app, Protocol::Http1).await;
    let asking = tokio::spawn(get(pair.listen, "/"));
    let release = started.recv().await.unwrap();
    let Pair {
        client,
        server,
        listen,
        inbound,
        ..
    } = pair;
    drop(inbound);
    let crate::testing::pair::Proxy {
        drain: client_drain,
        shared: client_shared,
        ..
    } = client;
    let crate::testing::pair::Proxy {
        drain: server_drain,
        shared: server_shared,
        ..
    } = server;
    drop((client_shared, server_shared));
    let draining =
        tokio::spawn(
            async move { tokio::join!(client_drain.drain(LIMIT), server_drain.drain(LIMIT)) },
        );
    eventually("the listener is closed", || {
        std::net::TcpStream::connect_timeout(&listen, Duration::from_secs(1)).is_err()
    })
    .await;
    assert!(!draining.is_finished());
    release.send(()).unwrap();
    assert_eq!(asking.await.unwrap(), (200, "done".to_owned()));
    assert_eq!(draining.await.unwrap(), (0, 0));
}

#[tokio::test]
async fn a_body_waits_until_the_application_wants_it() {
    let app = apps::raw(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        if head.starts_with(b"POST /no ") {
            stream
                .write_all(b"HTTP/1.1 417 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            return;
        }
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .await
            .unwrap();
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        stream.write_all(&body).await.unwrap();
    });
    let pair = Pair::new(app, Protocol::Http1).await;
    let request = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: 4\r\n\r\n"
        )
    };
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    client.write_all(request("/yes").as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    client.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("body"),
        "{answer}"
    );
    let refused = ask(pair.listen, &request("/no")).await;
    assert!(refused.starts_with("HTTP/1.1 417 "), "{refused}");
}
