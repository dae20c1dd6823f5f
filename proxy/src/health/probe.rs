//! One question to the application.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than any status line.
const STATUS_LINE: usize = 1_024;

/// The application does not serve.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("it cannot be asked: {0}")]
    Io(#[from] io::Error),
    #[error("it answered with status {0}")]
    Status(u16),
    #[error("it answered with something else than HTTP")]
    NotHttp,
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    #[error("it cannot be asked: {}", innermost(.0))]
    Connect(tonic::transport::Error),
    #[error("it says {0}")]
    NotServing(&'static str),
    #[error("it has no health service (grpc.health.v1.Health)")]
    NoHealthService,
    #[error("its health service does not know {0:?}")]
    NoSuchService(String),
    #[error("its health service answered: {text} ({code:?})")]
    Refused { code: tonic::Code, text: String },
    #[error("the command cannot be started: {0}")]
    Start(io::Error),
    #[error("the command ended with {status}{}{said}", if .said.is_empty() { "" } else { "; it said: " })]
    Exit { status: ExitStatus, said: String },
}

/// tonic says "transport error"; what happened stands at the end of its causes.
fn innermost(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// A connection is accepted.
pub(super) async fn tcp(address: SocketAddr) -> Result<(), Failure> {
    TcpStream::connect(address).await?;
    Ok(())
}

/// `GET path` is answered with 200 to 399.
pub(super) async fn http(address: SocketAddr, path: &str) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: maille-proxy\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        if line.len() > STATUS_LINE || stream.read_buf(&mut line).await? == 0 {
            return Err(Failure::NotHttp);
        }
    }
    match status(&line).ok_or(Failure::NotHttp)? {
        200..=399 => Ok(()),
        other => Err(Failure::Status(other)),
    }
}

fn status(line: &[u8]) -> Option<u16> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let mut words = str::from_utf8(line).ok()?.split_ascii_whitespace();
    words
        .next()
        .filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    /// The outcome of one HTTP check against an application that answers so.
    async fn check(answer: &'static str, expected: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let application = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let outcome = match http(address, "/up?x=1").await {
            Ok(()) => "healthy".to_owned(),
            Err(failure) => failure.to_string(),
        };
        assert_eq!(outcome, expected, "for {answer:?}");
        let request = application.await.unwrap();
        assert!(request.starts_with("GET /up?x=1 HTTP/1.1\r\nhost: 127.0.0.1:"));
    }

    #[tokio::test]
    async fn the_status_decides() {
        check("HTTP/1.1 200 OK\r\n\r\n", "healthy").await;
        check("HTTP/1.0 302 Found\r\n\r\n", "healthy").await;
        check("HTTP/1.1 503 No\r\n\r\n", "it answered with status 503").await;
        check("SSH-2.0-x\r\n", "it answered with something else than HTTP").await;
        check("", "it answered with something else than HTTP").await;
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_not_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(tcp(address).await.is_ok());
        drop(listener);
        assert!(matches!(tcp(address).await, Err(Failure::Io(_))));
    }
}
