//! HTTP/1 through a pair: carried over `maille/1`, restored at the far side.
#![allow(clippy::unwrap_used)]

use crate::snapshot::Protocol;
use crate::testing::apps::{self, ask, get, mirror};
use crate::testing::pair::{CLIENT, Pair, SERVER};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the application saw of a raw request.
async fn seen(pair: &Pair, request: &str) -> String {
    let answer = ask(pair.listen, request).await;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {answer}"));
    assert!(head.starts_with("HTTP/1."), "{head}");
    body.to_owned()
}

#[tokio::test]
async fn the_application_sees_the_request_and_who_sent_it() {
    let pair = Pair::new(mirror(), Protocol::Http1).await;
    let request = "PUT /a/b?c=d HTTP/1.1\r\nHost: api.demo.mesh:80\r\nX-One: 1\r\nConnection: close, X-Hop\r\nX-Hop: gone\r\n\
                   x-forwarded-client-cert: By=forged;URI=forged\r\nContent-Length: 4\r\n\r\nbody";
    let expected = format!(
        "PUT /a/b?c=d HTTP/1.1\ncontent-length: 4\nhost: api.demo.mesh:80\nx-forwarded-client-cert: By={SERVER};URI={CLIENT}\nx-one: 1\nbody"
    );
    assert_eq!(seen(&pair, request).await, expected);
    assert_eq!(
        pair.server
            .count("maille_tls_handshakes_total", &["server", "full"]),
        1.0
    );
    assert_eq!(
        pair.client
            .count("maille_requests_total", &["outbound", "demo/api:80", "2xx"]),
        1.0
    );
    assert_eq!(
        pair.server
            .count("maille_requests_total", &["inbound", CLIENT, "2xx"]),
        1.0
    );
}

#[tokio::test]
async fn http_1_0_and_other_forms_of_the_target_are_restored() {
    let pair = Pair::new(mirror(), Protocol::Detect).await;
    let xfcc = format!("x-forwarded-client-cert: By={SERVER};URI={CLIENT}");
    assert_eq!(
        seen(&pair, "GET /old HTTP/1.0\r\n\r\n").await,
        format!("GET /old HTTP/1.0\n{xfcc}\n")
    );
    let close = "Connection: close\r\n\r\n";
    let asterisk = seen(&pair, &format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{close}")).await;
    assert_eq!(asterisk, format!("OPTIONS * HTTP/1.1\nhost: a\n{xfcc}\n"));
    let absolute = seen(
        &pair,
        &format!("GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n{close}"),
    )
    .await;
    assert_eq!(
        absolute,
        format!("GET http://a.example/x HTTP/1.1\nhost: a.example\n{xfcc}\n")
    );
}

#[tokio::test]
async fn chunked_bodies_and_their_trailers_arrive() {
    let pair = Pair::new(mirror(), Protocol::Http1).await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\nConnection: close\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n";
    let seen = seen(&pair, request).await;
    assert!(seen.contains("transfer-encoding: chunked\n"), "{seen}");
    assert!(seen.ends_with("abcde\ntrailer x-sum: 5"), "{seen}");
}

#[tokio::test]
async fn one_connection_carries_many_requests_and_so_does_the_one_behind() {
    let pair = Pair::new(mirror(), Protocol::Http1).await;
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    for number in 0..20 {
        let request = format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(4).any(|window| window == b"URI=") {
            assert!(client.read_buf(&mut answer).await.unwrap() > 0);
        }
        let mut rest = [0; 512];
        let answered = String::from_utf8_lossy(&answer).into_owned();
        assert!(answered.contains(&format!("GET /{number} ")), "{answered}");
        let length = answered
            .split("content-length: ")
            .nth(1)
            .unwrap()
            .split("\r\n")
            .next()
            .unwrap()
            .parse::<usize>()
            .unwrap();
        let head = answered.find("\r\n\r\n").unwrap() + 4;
        let missing = (head + length).saturating_sub(answer.len());
        client.read_exact(&mut rest[..missing]).await.unwrap();
    }
    assert_eq!(pair.server.count("maille_tls_handshakes_total", &[]), 1.0);
}

#[tokio::test]
async fn heads_and_empty_answers_keep_their_lengths() {
    let app = apps::http(|request| async move {
        let status = request.uri().path()[1..].parse::<u16>().unwrap();
        let body = if status == 200 { "hello" } else { "" };
        Response::builder()
            .status(status)
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    });
    let pair = Pair::new(app, Protocol::Http1).await;
    let head = ask(
        pair.listen,
        "HEAD /200 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(
        head.contains("content-length: 5\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    for status in [204, 304, 404] {
        let (got, body) = get(pair.listen, &format!("/{status}")).await;
        assert_eq!((got, body.as_str()), (status, ""));
    }
}

#[tokio::test]
async fn large_bodies_pass_both_ways_under_backpressure() {
    let app = apps::http(|request| async move {
        let body = http_body_util::BodyExt::collect(request.into_body())
            .await
            .unwrap()
            .to_bytes();
        Response::new(Full::new(body))
    });
    let pair = Pair::new(app, Protocol::Http1).await;
    let body: Vec<u8> = (0..8_000_000_u32)
        .map(|number| (number / 7) as u8)
        .collect();
    let stream = TcpStream::connect(pair.listen).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let sent = body.clone();
    let writing = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.unwrap();
        write.write_all(&sent).await.unwrap();
        write
    });
    let mut answer = Vec::new();
    read.read_to_end(&mut answer).await.unwrap();
    writing.await.unwrap();
    assert!(answer.ends_with(&body), "{} bytes came back", answer.len());
}

#[tokio::test]
async fn a_websocket_and_a_connect_become_byte_streams() {
    let app = apps::raw(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let answer = if head.starts_with("connect b.example:9 ") {
            "HTTP/1.1 200 OK\r\n\r\n"
        } else if head.contains("upgrade: echo/1\r\n")
            && head.contains("connection: upgrade\r\n")
            && head.starts_with("get /chat ")
        {
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo/1\r\nsec-websocket-accept: x\r\n\r\nhello"
        } else {
            "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.ok();
    });
    let pair = Pair::new(app, Protocol::Http1).await;
    let cases = [
        (
            "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: echo/1\r\n\r\n",
            "HTTP/1.1 101 ",
            "hello",
        ),
        (
            "CONNECT b.example:9 HTTP/1.1\r\nhost: b.example:9\r\n\r\n",
            "HTTP/1.1 200 ",
            "",
        ),
    ];
    for (request, status, greeting) in cases {
        let mut client = TcpStream::connect(pair.listen).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(&format!("\r\n\r\n{greeting}")) {
            assert!(
                client.read_buf(&mut answer).await.unwrap() > 0,
                "{}",
                answer.escape_ascii()
            );
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(status), "{answer}");
        assert_eq!(
            answer.contains("upgrade: echo/1\r\n"),
            status.contains("101"),
            "{answer}"
        );
        client.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        client.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
        client.shutdown().await.unwrap();
        assert_eq!(
            client.read_buf(&mut Vec::new()).await.unwrap(),
            0,
            "the end passes through"
        );
    }
    let refused = ask(
        pair.listen,
        "GET /other HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: echo/1\r\n\r\n",
    )
    .await;
    assert!(
        refused.starts_with("HTTP/1.1 426 ") && refused.ends_with("no"),
        "{refused}"
    );
}
