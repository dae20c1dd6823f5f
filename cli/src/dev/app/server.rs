//! The API: HTTP/1, HTTP/2 and WebSocket on one port. Every answer says who gave it and what it saw.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use crate::args::dev::Server;
use crate::failure::Outcome;

use super::reply::{Reply, XFCC};
use super::{serve, websocket};

/// The largest body taken.
const BODY_LIMIT: usize = 1 << 20;

pub(super) async fn run(args: &Server) -> Outcome {
    let name = args.name.clone();
    serve(args, async move |stream: TcpStream| {
        let name = name.clone();
        let service = service_fn(move |request| {
            let name = name.clone();
            async move { answer(&name, request).await }
        });
        let connection = auto::Builder::new(TokioExecutor::new());
        if stream.set_nodelay(true).is_ok() {
            // A client that went away is its own business.
            let _gone = connection
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

async fn answer(
    name: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let xfcc = seen(request.headers());
    if let Some(key) = request
        .headers()
        .get(header::SEC_WEBSOCKET_KEY)
        .and_then(|key| key.to_str().ok())
    {
        let accept = websocket::accept_key(key);
        let upgrade = hyper::upgrade::on(&mut request);
        let name = name.to_string();
        // The connection's task carries the upgraded bytes; the conversation on them needs one of its own.
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let _gone = echo(TokioIo::new(upgraded), &name, &xfcc).await;
            }
        });
        return Ok(switched(&accept));
    }
    let response = match Limited::new(request.into_body(), BODY_LIMIT)
        .collect()
        .await
    {
        Ok(body) => json(&Reply {
            server: name.to_string(),
            xfcc,
            echo: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        }),
        Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    Ok(response)
}

/// The client that the headers name.
pub(super) fn seen(headers: &HeaderMap) -> String {
    headers
        .get(XFCC)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_string()
}

async fn echo(
    mut stream: TokioIo<hyper::upgrade::Upgraded>,
    name: &str,
    xfcc: &str,
) -> std::io::Result<()> {
    let mut reply = Reply {
        server: name.to_string(),
        xfcc: xfcc.to_string(),
        echo: String::new(),
    };
    while let Some(message) = websocket::read(&mut stream).await? {
        reply.echo = message;
        websocket::write(&mut stream, &serde_json::to_string(&reply)?, None).await?;
    }
    Ok(())
}

fn switched(accept: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// An answer in JSON.
pub(super) fn json(reply: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(reply) {
        Ok(body) => {
            let mut response = Response::new(Full::from(body));
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// An answer in plain text.
pub(super) fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
