//! An application that does what a request's headers tell it, counts what reaches it, and answers with what it saw.
//!
//! `x-reply-status: 503` answers with that status; `x-reply-delay: 200` waits that many milliseconds first; `x-reply-close: 1` closes the connection
//! without an answer; `x-reply-refuse: 1` refuses the stream, which only HTTP/2 can; `x-reply-header: name=value` adds a header; `x-reply-grpc-status: 14` ends a gRPC call so. `x-fail-first: 2` limits the
//! trouble to the first two attempts with the same `x-key`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Body = BoxBody<Bytes, Broken>;

/// Why an answer breaks off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the request told the application to close the connection")]
    Closed,
    #[error("the request told the application to refuse the stream")]
    Refused(#[source] h2::Error),
    #[error("the request cannot be read, or asks for an answer that cannot be made")]
    Invalid,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    fails: AtomicBool,
    attempts: Mutex<BTreeMap<String, u64>>,
}

/// A running application; it ends when this is dropped.
#[derive(Debug)]
pub struct Application {
    address: SocketAddr,
    counters: Arc<Counters>,
    task: tokio::task::JoinHandle<()>,
}

impl Application {
    /// Listens on a free port of 127.0.0.1. `name` is in every answer.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn start(name: &str) -> std::io::Result<Application> {
        Application::start_at(name, crate::ports::free()).await
    }

    /// Listens at a given address.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn start_at(name: &str, address: SocketAddr) -> std::io::Result<Application> {
        let listener = TcpListener::bind(address).await?;
        let counters = Arc::new(Counters::default());
        let task = tokio::spawn(accept(listener, name.into(), Arc::clone(&counters)));
        Ok(Application {
            address,
            counters,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have reached it.
    pub fn requests(&self) -> u64 {
        self.counters.requests.load(Ordering::Relaxed)
    }

    /// How many requests with this `x-key` have reached it.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn attempts(&self, key: &str) -> u64 {
        let attempts = self.counters.attempts.lock().expect("no holder panics");
        attempts.get(key).copied().unwrap_or_default()
    }
}

impl Application {
    /// Whether it answers everything with 500 from now on.
    pub fn fail(&self, fails: bool) {
        self.counters.fails.store(fails, Ordering::Relaxed);
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, name: Arc<str>, counters: Arc<Counters>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (name, counters) = (Arc::clone(&name), Arc::clone(&counters));
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                answer(request, Arc::clone(&name), Arc::clone(&counters))
            });
            // A client that goes away, or that was told to be cut off, is no error of the application's.
            auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await
                .ok();
        });
    }
}

/// What the headers ask for.
struct Orders {
    status: u16,
    delay: Duration,
    close: bool,
    refuse: bool,
    grpc_status: String,
}

impl Orders {
    fn read(headers: &HeaderMap, attempt: u64) -> Orders {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        let trouble = number("x-fail-first").is_none_or(|first| attempt <= first);
        let status = number("x-reply-status").and_then(|status| u16::try_from(status).ok());
        let delay = Duration::from_millis(number("x-reply-delay").unwrap_or_default());
        if trouble {
            let grpc_status = text("x-reply-grpc-status").unwrap_or("0").to_owned();
            Orders {
                status: status.unwrap_or(200),
                delay,
                close: text("x-reply-close").is_some(),
                refuse: text("x-reply-refuse").is_some(),
                grpc_status,
            }
        } else {
            Orders {
                status: 200,
                delay: Duration::ZERO,
                close: false,
                refuse: false,
                grpc_status: "0".into(),
            }
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    name: Arc<str>,
    counters: Arc<Counters>,
) -> Result<Response<Body>, Broken> {
    counters.requests.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|_| Broken::Invalid)?
        .to_bytes();
    let key = head
        .headers
        .get("x-key")
        .and_then(|key| key.to_str().ok())
        .unwrap_or_default();
    let attempt = {
        let mut attempts = counters.attempts.lock().expect("no holder panics");
        let entry = attempts.entry(key.to_owned()).or_default();
        *entry += 1;
        *entry
    };
    let mut orders = Orders::read(&head.headers, attempt);
    if counters.fails.load(Ordering::Relaxed) {
        orders.status = 500;
    }
    tokio::time::sleep(orders.delay).await;
    if orders.close {
        return Err(Broken::Closed);
    }
    if orders.refuse {
        // The server resets the stream with the reason of the error below it.
        return Err(Broken::Refused(h2::Reason::REFUSED_STREAM.into()));
    }
    let grpc = head
        .headers
        .get("content-type")
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        return Ok(grpc_answer(body, &orders));
    }
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(key, value)| (key.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let text = serde_json::json!({
        "server": &*name,
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map(ToString::to_string),
        "version": format!("{:?}", head.version),
        "headers": headers,
        "attempt": attempt,
        "body": String::from_utf8_lossy(&body),
    })
    .to_string();
    let mut response = Response::new(
        Full::new(Bytes::from(text))
            .map_err(|never| match never {})
            .boxed(),
    );
    *response.status_mut() =
        hyper::StatusCode::from_u16(orders.status).map_err(|_| Broken::Invalid)?;
    for value in head.headers.get_all("x-reply-header") {
        if let Some((name, value)) = value.to_str().ok().and_then(|text| text.split_once('=')) {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Broken::Invalid)?;
            response.headers_mut().append(
                name,
                HeaderValue::from_str(value).map_err(|_| Broken::Invalid)?,
            );
        }
    }
    Ok(response)
}

/// The message back, and the status as a trailer; a call that fails has no message.
fn grpc_answer(body: Bytes, orders: &Orders) -> Response<Body> {
    let status =
        HeaderValue::from_str(&orders.grpc_status).unwrap_or(HeaderValue::from_static("2"));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.clone());
    let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let failed = orders.grpc_status != "0";
    let body = if failed {
        Full::default().map_err(|never| match never {}).boxed()
    } else {
        StreamBody::new(tokio_stream::iter(frames)).boxed()
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if failed {
        headers.insert("grpc-status", status);
    }
    response
}
