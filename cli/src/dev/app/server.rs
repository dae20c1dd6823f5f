//! The API: HTTP/1, HTTP/2 and WebSocket on one port. Every answer says who gave it and what it saw.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::args::dev::Api;
use crate::failure::Outcome;

use super::reply::{Reply, XFCC};
use super::{secure, serve, websocket};

/// The largest body taken.
const BODY_LIMIT: usize = 1 << 20;

pub(super) async fn run(args: &Api) -> Outcome {
    let name = args.server.name.as_str();
    let certificate = args.certificate.as_deref();
    let acceptor = certificate.map(secure::acceptor).transpose()?;
    let mut server = args.server.clone();
    server.listen.extend(args.secure);
    serve(&server, async |stream: TcpStream| {
        let port = stream.local_addr().map(|address| address.port()).ok();
        let is_secure = args.secure.is_some_and(|at| Some(at.port()) == port);
        // A client that went away, or cannot do TLS, is its own business.
        match (&acceptor, stream.set_nodelay(true)) {
            (Some(acceptor), Ok(())) if is_secure => {
                if let Ok(stream) = acceptor.accept(stream).await {
                    talk(name, stream).await;
                }
            }
            (_, Ok(())) => talk(name, stream).await,
            (_, Err(_)) => {}
        }
    })
    .await
}

async fn talk<S>(name: &str, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let name = name.to_string();
    let service = service_fn(move |request| {
        let name = name.clone();
        async move { answer(&name, request).await }
    });
    let connection = auto::Builder::new(TokioExecutor::new());
    let _gone = connection
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
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
