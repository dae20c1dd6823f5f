//! An HTTP client that hides nothing: one request on a connection of its own, and the whole answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;

/// Far above every timeout that a test sets.
const LIMIT: Duration = Duration::from_secs(15);

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub body: String,
    /// The trailers.
    pub trailers: HeaderMap,
}

impl Answer {
    /// A header's value, empty where there is none. Several values are joined by commas.
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// What the application says that it saw.
    ///
    /// # Errors
    /// The answer is not the application's.
    pub fn seen(&self) -> anyhow::Result<Seen> {
        let json = serde_json::from_str(&self.body);
        json.map(Seen).with_context(|| {
            format!(
                "not the application's answer: {} {}",
                self.status, self.body
            )
        })
    }
}

/// A request as the application saw it.
#[derive(Debug, Clone)]
pub struct Seen(pub Value);

impl Seen {
    /// A field of the application's answer as text: `server`, `method`, `path`, `version`, `attempt`, `body`.
    pub fn field(&self, name: &str) -> String {
        match &self.0[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// A header as the application saw it, empty where there was none. Several values are joined by commas.
    pub fn header(&self, name: &str) -> String {
        let all = self.0["headers"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let values = all
            .iter()
            .filter(|pair| pair[0] == name)
            .filter_map(|pair| pair[1].as_str());
        values.collect::<Vec<_>>().join(",")
    }
}

/// `GET` over HTTP/1.
///
/// # Errors
/// There is no answer.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let request = Request::get(path).header("host", address.to_string());
    send(address, request.body(Full::default())?).await
}

/// Sends over HTTP/1.
///
/// # Errors
/// There is no answer.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    limited(async {
        let io = TokioIo::new(TcpStream::connect(address).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        let driver = tokio::spawn(connection);
        let answer = read(sender.send_request(request).await?).await;
        driver.abort();
        answer
    })
    .await
}

/// Sends over HTTP/2 with prior knowledge.
///
/// # Errors
/// There is no answer.
pub async fn send_h2(address: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    limited(async {
        let io = TokioIo::new(TcpStream::connect(address).await?);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        let driver = tokio::spawn(connection);
        let answer = read(sender.send_request(request).await?).await;
        driver.abort();
        answer
    })
    .await
}

async fn read(response: Response<Incoming>) -> anyhow::Result<Answer> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("the answer broke off")?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
        trailers,
    })
}

async fn limited(work: impl Future<Output = anyhow::Result<Answer>>) -> anyhow::Result<Answer> {
    tokio::time::timeout(LIMIT, work)
        .await
        .with_context(|| format!("no answer within {LIMIT:?}"))?
}
