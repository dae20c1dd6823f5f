//! `/live`, `/ready` and `/metrics` over plain HTTP, and the values from which readiness is made.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::supervise::Stage;
use crate::telemetry::Metrics;

/// Connections at once. Kubelets and scrapers hold a handful; more than this is a mistake or an attack.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take over its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What the process still waits for before it is ready. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    waiting: Arc<Mutex<BTreeMap<u64, String>>>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

impl Readiness {
    /// Makes the process unready until the returned value is dropped. The reason is shown by `/ready`.
    pub fn wait_for(&self, reason: impl Into<String>) -> NotReady {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.reasons().insert(id, reason.into());
        NotReady {
            readiness: self.clone(),
            id,
        }
    }

    /// Why the process is not ready; empty where it is.
    pub fn missing(&self) -> Vec<String> {
        self.reasons().values().cloned().collect()
    }

    fn reasons(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, String>> {
        self.waiting
            .lock()
            .expect("no code panics while it holds the reasons")
    }
}

/// One reason for not being ready. Drop it when the reason is gone.
#[derive(Debug)]
#[must_use = "dropping it at once says that the process is ready"]
pub struct NotReady {
    readiness: Readiness,
    id: u64,
}

impl Drop for NotReady {
    fn drop(&mut self) {
        self.readiness.reasons().remove(&self.id);
    }
}

/// Serves until the stage stops.
pub fn serve(stage: &Stage, listener: TcpListener, readiness: Readiness, metrics: Metrics) {
    let accept = accept(stage.clone(), listener, Endpoint { readiness, metrics });
    stage.vital("health", accept);
}

#[derive(Debug, Clone)]
struct Endpoint {
    readiness: Readiness,
    metrics: Metrics,
}

async fn accept(stage: Stage, listener: TcpListener, endpoint: Endpoint) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let stopping = stage.stopping();
    loop {
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (socket, from) = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(failure) => {
                    // Out of file descriptors, most likely: without a pause this would spin.
                    warn!(%failure, "could not accept a health connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (endpoint, stopping) = (endpoint.clone(), stopping.clone());
        stage.task("health connection", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = connection(socket, from, endpoint) => {}
            }
            drop(slot);
        });
    }
}

async fn connection(socket: tokio::net::TcpStream, from: SocketAddr, endpoint: Endpoint) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = endpoint.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(true)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(failure) = served {
        debug!(%from, %failure, "a health connection ended early");
    }
}

impl Endpoint {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD\n".to_owned(),
            );
        }
        match path {
            "/live" => text(StatusCode::OK, "live\n".to_owned()),
            "/ready" => {
                let missing = self.readiness.missing();
                if missing.is_empty() {
                    text(StatusCode::OK, "ready\n".to_owned())
                } else {
                    text(
                        StatusCode::SERVICE_UNAVAILABLE,
                        format!("not ready: {}\n", missing.join("; ")),
                    )
                }
            }
            "/metrics" => match self.metrics.encode() {
                Ok(body) => {
                    let mut answer = text(StatusCode::OK, body);
                    answer.headers_mut().insert(
                        header::CONTENT_TYPE,
                        header::HeaderValue::from_static(
                            "application/openmetrics-text; version=1.0.0; charset=utf-8",
                        ),
                    );
                    answer
                }
                Err(failure) => text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("the metrics do not encode: {failure}\n"),
                ),
            },
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /live, /ready and /metrics\n".to_owned(),
            ),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::supervise::Supervisor;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn ready_names_what_is_missing_until_it_is_there() {
        let mut supervisor = Supervisor::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Readiness::default();
        let leader = readiness.wait_for("no leader yet");
        serve(
            &supervisor.stage("health"),
            listener,
            readiness.clone(),
            Metrics::new(),
        );

        assert!(get(address, "/live").await.starts_with("HTTP/1.1 200"));
        let waiting = get(address, "/ready").await;
        assert!(
            waiting.starts_with("HTTP/1.1 503") && waiting.contains("no leader yet"),
            "{waiting}"
        );
        drop(leader);
        assert!(get(address, "/ready").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("# EOF"));
        assert!(get(address, "/other").await.starts_with("HTTP/1.1 404"));
        supervisor.stop().await;
    }
}
