//! One HTTP/1 request and its answer: for the sidecar's admin port, which is not worth a client of its own.

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A sidecar's configuration is its own workload's, and its metric series are bounded: more than this is not a sidecar.
const ANSWER_LIMIT: usize = 64 << 20;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody listens there.
    #[error("connect to {address}")]
    Connect {
        /// The address.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("ask {address} for {path}: {reason}")]
    Exchange {
        /// The address.
        address: String,
        /// The path.
        path: String,
        /// What happened.
        reason: String,
    },
}

/// Makes one request on a connection of its own.
///
/// # Errors
/// Nobody listens, or the exchange broke off.
pub async fn exchange(
    address: &str,
    method: Method,
    path: &str,
    body: String,
) -> Result<(StatusCode, String), FetchError> {
    let broken = |reason: String| FetchError::Exchange {
        address: address.to_string(),
        path: path.to_string(),
        reason,
    };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| FetchError::Connect {
            address: address.to_string(),
            source,
        })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(error.to_string()))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address)
        .body(Full::new(Bytes::from(body)));
    let request = request.map_err(|error| broken(error.to_string()))?;
    let asking = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|error| broken(error.to_string()))?;
        Ok((
            status,
            String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        ))
    };
    let mut asking = std::pin::pin!(asking);
    tokio::select! {
        answer = &mut asking => answer,
        // The connection may end before the answer's last part is taken over.
        _ended = connection => asking.await,
    }
}
