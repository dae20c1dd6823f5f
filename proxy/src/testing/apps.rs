//! Applications that know nothing of the mesh, and clients that know as little.

use super::pair::listener;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What no test should take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Serves raw connections, one after the other and beside each other.
pub(crate) fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = listener();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Serves HTTP/1 or HTTP/2, whichever the caller speaks.
pub(crate) fn http<F, B>(
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    raw(move |stream| {
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer = answer(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        async move {
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A test that ends cuts its connections.
            builder
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await
                .ok();
        }
    })
}

/// Tells what it saw: the request's line and headers, sorted, then its body.
pub(crate) fn mirror() -> SocketAddr {
    http(|request| async move {
        let (parts, body) = request.into_parts();
        let mut lines = vec![format!(
            "{} {} {:?}",
            parts.method, parts.uri, parts.version
        )];
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut headers: Vec<_> = parts.headers.iter().map(header).collect();
        headers.sort();
        lines.extend(headers);
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned();
        lines.push(String::from_utf8_lossy(&collected.to_bytes()).into_owned());
        if let Some(trailers) = trailers {
            lines.extend(
                trailers
                    .iter()
                    .map(header)
                    .map(|line| format!("trailer {line}")),
            );
        }
        Response::new(Full::new(Bytes::from(lines.join("\n"))))
    })
}

/// Sends raw bytes and reads until the server ends the connection.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer))
        .await
        .expect("no end of the answer in time")
        .ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A GET on a connection of its own: the status and the body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = ask(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: api.demo.mesh\r\nconnection: close\r\n\r\n"),
    )
    .await;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    (status.unwrap_or(0), body.unwrap_or(answer))
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .unwrap_or_else(|_| panic!("never came: {what}"));
}
