//! An application that knows nothing: HTTP/1, HTTP/2 and gRPC on one port. It answers with what it was sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// A running application; it stops when this is dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Backend {
    /// Listens on `address` (port 0: any) and answers until dropped. `name` is in every answer.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(name: &str, address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, name.into(), Arc::clone(&requests)));
        Ok(Self {
            address,
            requests,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it has answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, name: Arc<str>, requests: Arc<AtomicU64>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        socket.set_nodelay(true).ok();
        let name = Arc::clone(&name);
        let requests = Arc::clone(&requests);
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                requests.fetch_add(1, Ordering::Relaxed);
                answer(request, Arc::clone(&name))
            });
            let server = auto::Builder::new(TokioExecutor::new());
            // A client that goes away in the middle is no error of the application's.
            server
                .serve_connection(TokioIo::new(socket), service)
                .await
                .ok();
        });
    }
}

/// gRPC requests get their message back with a status trailer; others a JSON description of the request.
async fn answer(
    request: Request<Incoming>,
    name: Arc<str>,
) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let grpc = head
        .headers
        .get("content-type")
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", hyper::header::HeaderValue::from_static("0"));
        let frames = [
            Ok::<_, Infallible>(Frame::data(body)),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(tokio_stream::iter(frames)).boxed();
        let mut response = Response::new(body);
        response.headers_mut().insert(
            "content-type",
            hyper::header::HeaderValue::from_static("application/grpc"),
        );
        return Ok(response);
    }
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(key, value)| (key.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let text = serde_json::json!({
        "server": &*name,
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "version": format!("{:?}", head.version),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    })
    .to_string();
    Ok(Response::new(Full::new(Bytes::from(text)).boxed()))
}
