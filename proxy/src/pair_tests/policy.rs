//! Authorization through real connections: denied, cut, forged, not told yet.
#![allow(clippy::unwrap_used)]

use crate::snapshot::{Action, Mtls, Pattern, Protocol, Rule};
use crate::testing::apps::{self, ask, get, mirror};
use crate::testing::pair::{CLIENT, Pair, SERVER, listener};
use std::io::ErrorKind;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn deny(path: &str) -> Rule {
    Rule {
        action: Action::Deny,
        policy: "demo/guard".into(),
        identities: vec![Pattern::new(CLIENT)],
        namespaces: Vec::new(),
        methods: Vec::new(),
        paths: if path.is_empty() {
            Vec::new()
        } else {
            vec![Pattern::new(path)]
        },
    }
}

/// As if redirected from the application's own port.
async fn redirected(pair: &Pair, application: SocketAddr) -> SocketAddr {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let inbound = pair.inbound.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(inbound.clone().serve_redirected(stream, application));
        }
    });
    address
}

#[tokio::test]
async fn a_denied_identity_gets_403_and_is_counted_and_spellings_do_not_help() {
    let pair = Pair::new(mirror(), Protocol::Http1).await;
    pair.policy(|port| port.rules = vec![deny("/admin*")]);
    assert_eq!(get(pair.listen, "/public").await.0, 200);
    for path in [
        "/admin",
        "/admin/x?y",
        "//admin",
        "/%61dmin",
        "/public/../admin",
    ] {
        let answer = ask(
            pair.listen,
            &format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
        )
        .await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("maille-error: denied\r\n"),
            "{path}: {answer}"
        );
    }
    assert_eq!(
        pair.server.count(
            "maille_authorizations_total",
            &["deny", "demo/guard", CLIENT]
        ),
        5.0
    );
    assert_eq!(
        pair.server.count("maille_requests_total", &["4xx", CLIENT]),
        5.0
    );
}

#[tokio::test]
async fn a_live_connection_is_judged_by_the_rules_that_hold_now() {
    let pair = Pair::new(mirror(), Protocol::Http1).await;
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    let mut ask = async || {
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"URI=spiffe://mesh.test/ns/demo/sa/web\n")
            && !answer.ends_with(b"refuses this request\n")
        {
            assert!(client.read_buf(&mut answer).await.unwrap() > 0);
        }
        String::from_utf8(answer).unwrap()
    };
    assert!(ask().await.starts_with("HTTP/1.1 200 "));
    pair.policy(|port| port.rules = vec![deny("")]);
    assert!(ask().await.starts_with("HTTP/1.1 403 "));
    pair.policy(|port| port.rules.clear());
    assert!(ask().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn opaque_connections_are_refused_and_cut() {
    let echo = apps::raw(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.ok();
    });
    let pair = Pair::new(echo, Protocol::Tcp).await;
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    client.write_all(b"x").await.unwrap();
    client.read_exact(&mut [0; 1]).await.unwrap();
    pair.policy(|port| port.rules = vec![deny("")]);
    let cut = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    let mut refused = TcpStream::connect(pair.listen).await.unwrap();
    assert_eq!(
        refused.read(&mut [0; 1]).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn plaintext_is_refused_in_strict_mode_and_nobody_in_permissive() {
    let app = mirror();
    let pair = Pair::new(app, Protocol::Detect).await;
    let plain = redirected(&pair, app).await;
    let mut client = TcpStream::connect(plain).await.unwrap();
    let refused = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset);
    assert_eq!(
        pair.server
            .count("maille_authorizations_total", &["deny", "(plaintext)"]),
        1.0
    );
    pair.policy(|port| port.mtls = Mtls::Permissive);
    let forged = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: URI=spiffe://mesh.test/ns/demo/sa/web\r\nconnection: close\r\n\r\n";
    let answer = ask(plain, forged).await;
    assert!(answer.ends_with("GET / HTTP/1.1\nhost: a\n"), "{answer}");
    let mut allow = deny("");
    allow.action = Action::Allow;
    pair.policy(|port| port.rules = vec![allow]);
    assert!(ask(plain, forged).await.starts_with("HTTP/1.1 403 "));
    assert_eq!(get(pair.listen, "/").await.0, 200);
}

#[tokio::test]
async fn nothing_is_accepted_before_the_policy_has_come() {
    let app = mirror();
    let pair = Pair::new(app, Protocol::Http1).await;
    let plain = redirected(&pair, app).await;
    pair.server.change(|snapshot| snapshot.inbound = None);
    // Refused before anybody has looked at it, so that the caller's sidecar may ask another endpoint; here is none.
    assert_eq!(get(pair.listen, "/").await.0, 503);
    let mut client = TcpStream::connect(plain).await.unwrap();
    assert_eq!(
        client.read(&mut [0; 1]).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

/// Asks until there is an answer: a first byte that comes after the head start finds the server connected, which these rules
/// refuse to opaque bytes.
async fn ask_in_time(pair: &Pair, request: &str) -> String {
    for _ in 0..50 {
        let answer = ask(pair.listen, request).await;
        if !answer.is_empty() {
            return answer;
        }
    }
    panic!("fifty first bytes came too late");
}

#[tokio::test]
async fn http_that_is_called_opaque_is_judged_and_cleaned_as_http() {
    let pair = Pair::new(mirror(), Protocol::Tcp).await;
    pair.policy(|port| {
        port.protocol = Protocol::Detect;
        port.rules = vec![deny("/admin")];
    });
    let head =
        "HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: URI=forged\r\nconnection: close\r\n\r\n";
    let answer = ask_in_time(&pair, &format!("GET / {head}")).await;
    assert!(
        answer.contains(&format!(
            "x-forwarded-client-cert: By={SERVER};URI={CLIENT}\n"
        )),
        "{answer}"
    );
    assert!(!answer.contains("forged"), "{answer}");
    let answer = ask_in_time(&pair, &format!("GET /admin {head}")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}
