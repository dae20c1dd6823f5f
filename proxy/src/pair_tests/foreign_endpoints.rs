//! A native client that calls an Envoy or a gRPC program: the application's own protocol over mutual TLS.
#![allow(clippy::unwrap_used)]

use crate::snapshot::{Endpoint, MeshForm, Protocol};
use crate::testing::apps::{self, LIMIT, get, mirror};
use crate::testing::pair::{CLIENT, Pair, endpoint, listener};
use crate::tls::{Accepted, Form};
use http::Request;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn foreign(application: SocketAddr, mesh_port: u16) -> Endpoint {
    let mut endpoint = endpoint(application, Some(mesh_port));
    endpoint.mesh.as_mut().unwrap().form = MeshForm::Plain;
    endpoint
}

/// A pair whose client takes the service for an Envoy. A native mesh port speaks what an Envoy's does.
async fn pair(application: SocketAddr, protocol: Protocol) -> Pair {
    let pair = Pair::new(application, protocol).await;
    pair.endpoints(vec![foreign(application, pair.mesh.port())]);
    pair
}

#[tokio::test]
async fn http1_arrives_as_it_was_sent() {
    let pair = pair(mirror(), Protocol::Http1).await;
    for _ in 0..2 {
        let (status, seen) = get(pair.listen, "/a").await;
        assert_eq!(status, 200, "{seen}");
        assert!(seen.starts_with("GET /a HTTP/1.1"), "{seen}");
        assert!(seen.contains(&format!("URI={CLIENT}")), "{seen}");
        assert!(!seen.contains("maille-port"), "{seen}");
    }
    // The second request took the first one's connection.
    assert_eq!(
        pair.server
            .count("maille_tls_handshakes_total", &["server"]),
        1.0
    );
}

/// In which forms and for which ports connections came.
type Seen = Arc<Mutex<Vec<(Form, Option<u16>)>>>;

/// Answers every connection by TLS with the service's certificate, and notes in which form and for which port it came.
fn envoy(pair: &Pair) -> (SocketAddr, Seen) {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let mesh = pair.server.shared.mesh.borrow().clone().unwrap();
    let seen = Seen::default();
    let noted = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Accepted {
                mut tls,
                form,
                port,
                ..
            } = mesh.accept(stream).await.unwrap();
            noted.lock().unwrap().push((form, port));
            tokio::spawn(async move {
                let mut said = [0; 1];
                tls.read_exact(&mut said).await.ok();
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                tls.write_all(answer.as_bytes()).await.ok();
                tls.shutdown().await.ok();
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn alpn_is_the_applications_protocol_and_sni_its_port() {
    let application = apps::raw(|_| async {});
    for (protocol, form) in [
        (Protocol::Http1, Form::Http1),
        (Protocol::Http2, Form::Http2),
        (Protocol::Tcp, Form::Opaque),
    ] {
        let pair = Pair::new(application, protocol).await;
        let (address, seen) = envoy(&pair);
        pair.endpoints(vec![foreign(application, address.port())]);
        let mut stream = TcpStream::connect(pair.listen).await.unwrap();
        if form == Form::Http2 {
            let (mut client, driving) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(driving);
            let request = Request::get("http://a/").body(()).unwrap();
            let (answer, _) = client.send_request(request, true).unwrap();
            tokio::spawn(answer);
        } else {
            let hello = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
            stream.write_all(hello).await.unwrap();
        }
        apps::eventually("a call", || !seen.lock().unwrap().is_empty()).await;
        let expected = (form, Some(application.port()));
        assert_eq!(seen.lock().unwrap()[0], expected, "{protocol:?}");
    }
}

#[tokio::test]
async fn http2_arrives_as_it_was_sent() {
    let pair = pair(mirror(), Protocol::Http2).await;
    let stream = TcpStream::connect(pair.listen).await.unwrap();
    let (mut client, driving) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(driving);
    let request = Request::get("http://api.demo.mesh/b").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let seen = body.data().await.unwrap().unwrap();
    let seen = String::from_utf8_lossy(&seen).into_owned();
    let expected = "GET http://api.demo.mesh/b HTTP/2.0";
    assert!(seen.starts_with(expected), "{seen}");
    assert!(!seen.contains("maille-port"), "{seen}");
}

/// Agrees to anything, then says back what it hears.
async fn agree(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let agreed =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(agreed).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await.ok();
}

#[tokio::test]
async fn an_upgrade_becomes_a_byte_stream() {
    let pair = pair(apps::raw(agree), Protocol::Http1).await;
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    let asking = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.write_all(asking).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{head:?}");
    client.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
}

/// Greets, then answers everything at the end of what it was sent.
async fn greet(mut stream: TcpStream) {
    stream.write_all(b"220 ready\r\n").await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.ok();
    stream.write_all(&said).await.ok();
}

#[tokio::test]
async fn opaque_bytes_pass_server_first_and_half_closed() {
    for protocol in [Protocol::Tcp, Protocol::Detect] {
        let pair = pair(apps::raw(greet), protocol).await;
        let mut client = TcpStream::connect(pair.listen).await.unwrap();
        let mut greeting = [0; 11];
        client.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 ready\r\n");
        client.write_all(b"EHLO me\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = String::new();
        let reading = tokio::time::timeout(LIMIT, client.read_to_string(&mut rest));
        reading.await.unwrap().unwrap();
        assert_eq!(rest, "EHLO me\r\n");
        let open = ["outbound", r#"tls="mesh""#];
        assert_eq!(pair.client.count("maille_connections_total", &open), 1.0);
    }
}

#[tokio::test]
async fn another_identity_is_refused_and_never_spoken_to_in_plain_text() {
    let application = mirror();
    let pair = Pair::new(application, Protocol::Http1).await;
    let mut wrong = foreign(application, pair.mesh.port());
    wrong.mesh.as_mut().unwrap().identity = "spiffe://mesh.test/ns/demo/sa/other".into();
    pair.endpoints(vec![wrong]);
    let (status, answer) = get(pair.listen, "/").await;
    assert_eq!(status, 503, "{answer}");
}
