//! HTTP/2 and gRPC through a pair: streams both ways, trailers, resets, failures as gRPC statuses.
#![allow(clippy::unwrap_used)]

use crate::snapshot::Protocol;
use crate::testing::apps::{self, eventually};
use crate::testing::pair::{CLIENT, Pair, SERVER};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use std::net::SocketAddr;
use tokio::net::TcpStream;

async fn client(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        // Ends with the test.
        connection.await.ok();
    });
    client
}

fn call(path: &str) -> Request<()> {
    Request::post(format!("http://api.demo.mesh{path}"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

async fn next(body: &mut RecvStream) -> Option<Bytes> {
    let data = body.data().await?.unwrap();
    body.flow_control().release_capacity(data.len()).unwrap();
    Some(data)
}

fn status(trailers: &HeaderMap) -> &str {
    trailers.get("grpc-status").unwrap().to_str().unwrap()
}

#[tokio::test]
async fn a_unary_call_keeps_its_authority_and_trailers() {
    let app = apps::http(|request| async move {
        let (parts, body) = request.into_parts();
        let header = |name: &str| {
            parts
                .headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let seen = format!(
            "{:?} {} {:?} {:?}",
            parts.version,
            parts.uri,
            header("te"),
            header("x-forwarded-client-cert")
        );
        let sent = body.collect().await.unwrap().to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("5"));
        let answer = Full::new(Bytes::from(format!("{seen} {}", sent.len())));
        Response::new(answer.with_trailers(std::future::ready(Some(Ok(trailers)))))
    });
    for protocol in [Protocol::Grpc, Protocol::Detect] {
        let pair = Pair::new(app, protocol).await;
        let mut client = client(pair.listen).await;
        let (response, mut send) = client.send_request(call("/demo.Api/Get"), false).unwrap();
        send.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let seen = String::from_utf8(next(&mut body).await.unwrap().to_vec()).unwrap();
        let expected = format!(
            r#"HTTP/2.0 http://api.demo.mesh/demo.Api/Get Some("trailers") Some("By={SERVER};URI={CLIENT}") 5"#
        );
        assert_eq!(seen, expected);
        assert!(next(&mut body).await.is_none());
        assert_eq!(status(&body.trailers().await.unwrap().unwrap()), "5");
        for proxy in [&pair.client, &pair.server] {
            eventually("the call is counted", || {
                proxy.count("maille_grpc_responses_total", &[r#"grpc_status="5""#]) == 1.0
            })
            .await;
        }
    }
}

#[tokio::test]
async fn both_directions_stream_at_the_same_time() {
    let app = apps::http(|request| async move { Response::new(request.into_body()) });
    let pair = Pair::new(app, Protocol::Http2).await;
    let mut client = client(pair.listen).await;
    let (response, mut send) = client.send_request(call("/echo"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    for number in 0..20_u8 {
        send.send_data(Bytes::from(vec![number; 100]), false)
            .unwrap();
        let mut echo = Vec::new();
        while echo.len() < 100 {
            echo.extend(next(&mut body).await.unwrap());
        }
        assert_eq!(echo, vec![number; 100]);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", HeaderValue::from_static("1"));
    send.send_trailers(trailers.clone()).unwrap();
    assert!(next(&mut body).await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap(), trailers);
}

#[tokio::test]
async fn many_streams_share_one_connection_between_the_proxies() {
    let app = apps::http(|request| async move { Response::new(request.into_body()) });
    let pair = Pair::new(app, Protocol::Http2).await;
    let client = client(pair.listen).await;
    let calls = (0..100_u8).map(|number| {
        let mut client = client.clone();
        async move {
            let (response, mut send) = client.send_request(call("/"), false).unwrap();
            send.send_data(Bytes::from(vec![number; 3_000]), true)
                .unwrap();
            let mut body = response.await.unwrap().into_body();
            let mut echo = Vec::new();
            while let Some(data) = next(&mut body).await {
                echo.extend(data);
            }
            assert_eq!(echo, vec![number; 3_000]);
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(pair.server.count("maille_tls_handshakes_total", &[]), 1.0);
}

#[tokio::test]
async fn a_call_that_the_client_cancels_is_cancelled_at_the_application() {
    struct Dropped(tokio::sync::mpsc::UnboundedSender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.send(()).ok();
        }
    }
    let (sender, mut dropped) = tokio::sync::mpsc::unbounded_channel();
    let (started, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let app = apps::http(move |_| {
        let (dropped, started) = (Dropped(sender.clone()), started.clone());
        async move {
            started.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(dropped);
            Response::new(Full::new(Bytes::new()))
        }
    });
    let pair = Pair::new(app, Protocol::Http2).await;
    let mut client = client(pair.listen).await;
    let (response, mut send) = client.send_request(call("/"), false).unwrap();
    begun.recv().await.unwrap();
    send.send_reset(Reason::CANCEL);
    dropped.recv().await.unwrap();
    assert_eq!(response.await.unwrap_err().reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn grpc_clients_hear_of_failures_in_their_own_words() {
    let pair = Pair::new(apps::mirror(), Protocol::Grpc).await;
    pair.endpoints(vec![]);
    let mut client = client(pair.listen).await;
    let (response, _) = client.send_request(call("/"), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(
        (response.status().as_u16(), status(response.headers())),
        (200, "14")
    );
    assert_eq!(response.headers()["maille-error"], "no_endpoint");
}

#[tokio::test]
async fn http1_and_http2_meet_where_a_port_declares_its_protocol() {
    let pair = Pair::new(apps::mirror(), Protocol::Detect).await;
    pair.policy(|port| port.protocol = Protocol::Http1);
    let mut client = client(pair.listen).await;
    let mut request = call("/down");
    request
        .headers_mut()
        .append("cookie", HeaderValue::from_static("a=1"));
    request
        .headers_mut()
        .append("cookie", HeaderValue::from_static("b=2"));
    let (response, mut send) = client.send_request(request, false).unwrap();
    send.send_data(Bytes::from_static(b"x"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let seen = String::from_utf8(next(&mut body).await.unwrap().to_vec()).unwrap();
    assert!(seen.starts_with("POST /down HTTP/1.1\n"), "{seen}");
    assert!(
        seen.contains("\ncookie: a=1; b=2\n") && seen.contains("\nhost: api.demo.mesh\n"),
        "{seen}"
    );
    pair.policy(|port| port.protocol = Protocol::Http2);
    let (status, seen) = apps::get(pair.listen, "/up").await;
    assert_eq!(status, 200);
    assert!(
        seen.starts_with("GET http://api.demo.mesh/up HTTP/2.0\n"),
        "{seen}"
    );
}
