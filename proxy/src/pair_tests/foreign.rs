//! What an Envoy or a gRPC program does at the mesh port: plain HTTP and opaque bytes, the port in SNI.
#![allow(clippy::unwrap_used)]

use crate::net;
use crate::snapshot::{InboundPort, Protocol};
use crate::testing::apps::{self, LIMIT, mirror};
use crate::testing::pair::{CLIENT, Pair, SERVER};
use crate::tls::{self, Form, Socket};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connection with the client's certificate, without its proxy.
async fn call(pair: &Pair, form: Form, port: u16) -> TlsStream<Socket> {
    let mesh = pair.client.shared.mesh.borrow().clone().unwrap();
    let client = mesh.client(&SERVER.into(), form).unwrap();
    let stream = net::connect(pair.mesh, LIMIT).await.unwrap();
    tls::connect(client, port, stream, LIMIT).await.unwrap()
}

/// Sends bytes, and reads until the other side ends the connection.
async fn ask(pair: &Pair, form: Form, port: u16, bytes: &str) -> String {
    let mut stream = call(pair, form, port).await;
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer));
    // A connection that is cut is an end, too.
    reading.await.expect("no end in time").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET /a HTTP/1.1\r\nhost: api\r\nx-forwarded-client-cert: URI=forged\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn plain_http1_reaches_the_port_that_sni_names() {
    let application = mirror();
    let pair = Pair::new(application, Protocol::Http1).await;
    let answer = ask(&pair, Form::Http1, application.port(), GET).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("GET /a HTTP/1.1"), "{answer}");
    assert!(answer.contains(&format!("URI={CLIENT}")), "{answer}");
    assert!(!answer.contains("forged"), "{answer}");
}

#[tokio::test]
async fn plain_http2_reaches_the_port_that_sni_names() {
    let application = mirror();
    let pair = Pair::new(application, Protocol::Http2).await;
    let stream = call(&pair, Form::Http2, application.port()).await;
    let opened =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, driving) = opened.unwrap();
    tokio::spawn(driving);
    let request = Request::get("http://api.demo.mesh/b").body(Full::<Bytes>::default());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let seen = String::from_utf8_lossy(&body).into_owned();
    assert!(
        seen.starts_with("GET http://api.demo.mesh/b HTTP/2.0"),
        "{seen}"
    );
    assert!(seen.contains(&format!("URI={CLIENT}")), "{seen}");
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
        let application = apps::raw(greet);
        let pair = Pair::new(application, protocol).await;
        let mut stream = call(&pair, Form::Opaque, application.port()).await;
        let mut greeting = [0; 11];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 ready\r\n");
        stream.write_all(b"EHLO me\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = String::new();
        let reading = tokio::time::timeout(LIMIT, stream.read_to_string(&mut rest));
        reading.await.unwrap().unwrap();
        assert_eq!(rest, "EHLO me\r\n");
        let open = ["inbound", r#"tls="mesh""#, CLIENT];
        assert_eq!(pair.server.count("maille_connections_total", &open), 1.0);
    }
}

#[tokio::test]
async fn http_that_comes_as_opaque_bytes_is_judged_as_http() {
    let application = mirror();
    let pair = Pair::new(application, Protocol::Detect).await;
    let answer = ask(&pair, Form::Opaque, application.port(), GET).await;
    assert!(answer.contains(&format!("URI={CLIENT}")), "{answer}");
    assert!(!answer.contains("forged"), "{answer}");
}

#[tokio::test]
async fn who_is_not_allowed_is_refused_in_every_form() {
    let application = mirror();
    let pair = Pair::new(application, Protocol::Detect).await;
    pair.policy(|port: &mut InboundPort| port.default_deny = true);
    let answer = ask(&pair, Form::Http1, application.port(), GET).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let answer = ask(&pair, Form::Opaque, application.port(), "bytes\n").await;
    assert_eq!(answer, "");
}
