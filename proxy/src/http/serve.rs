//! The accepting sides: HTTP/1 and HTTP/2 connections of clients, each request given to a handler.

use super::application::FromHttp2;
use super::body::Body;
use super::failure::{Asked, Failure};
use super::interim::Interim;
use super::mesh;
use super::upgrade::{self, Upgrade};
use crate::drain::Work;
use crate::supervise::Tasks;
use crate::wire;
use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Headers of one HTTP/1 message. Browsers and gateways send up to some fifty.
const HEADERS: usize = 128;

/// What is done with a request.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers it; failures are answers too, but for those that the client must see as a stream, or a connection, that broke off.
    fn handle(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Reason>> + Send;
}

/// Serves one HTTP/1 connection until either side ends it, or a drain and the request under way have.
pub async fn serve_http1<I, H>(io: I, work: Work, tasks: Tasks, handler: H)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    serve_http1_until(io, work, tasks, std::future::pending(), handler).await;
}

/// The same; what `ending` tells is as good as a drain.
pub async fn serve_http1_until<I, H>(
    io: I,
    mut work: Work,
    tasks: Tasks,
    ending: impl Future<Output = ()>,
    handler: H,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    // One count a request, not one for each part of the two.
    let shared = Arc::new((handler, tasks));
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move {
            let answered = answer_http1(&shared.0, &shared.1, request).await;
            // The connection ends without an answer.
            answered.map_err(h2::Error::from)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .auto_date_header(false)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let told = async {
        tokio::select! {
            () = work.drained() => {}
            () = ending => {}
        }
    };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP/1 connection ended");
    }
}

async fn answer_http1<H: Handler>(
    handler: &H,
    tasks: &Tasks,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Reason> {
    let Some(upgrade) = wanted_upgrade(&request) else {
        return handler.handle(request.map(Body::http1)).await;
    };
    let (read, pending) = upgrade::pending(hyper::upgrade::on(&mut request));
    request.extensions_mut().insert(upgrade);
    let connect = request.method() == Method::CONNECT;
    let mut response = handler.handle(request.map(|_| read)).await?;
    let upgraded = if connect {
        response.status().is_success()
    } else {
        response.status() == StatusCode::SWITCHING_PROTOCOLS
    };
    if upgraded {
        let body = std::mem::replace(response.body_mut(), Body::empty());
        tasks.spawn(pending.run(body));
        if !connect {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
    }
    Ok(response)
}

/// What the client wants the connection to become. A request with a body of its own is never upgraded: its bytes and those
/// of the new protocol could not be told apart on the way.
fn wanted_upgrade(request: &Request<Incoming>) -> Option<Upgrade> {
    if request.method() == Method::CONNECT {
        return Some(Upgrade(None));
    }
    let protocol = request.headers().get(UPGRADE)?;
    let whole =
        http_body::Body::is_end_stream(request.body()) && request.version() == Version::HTTP_11;
    (whole && names_upgrade(request.headers())).then(|| Upgrade(Some(protocol.clone())))
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// Serves one HTTP/2 connection of an application until either side ends it, or a drain and what is under way have.
pub async fn serve_http2<I, H>(io: I, work: Work, handler: H)
where
    I: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    serve_http2_until(io, work, std::future::pending(), handler).await;
}

/// The same; what `ending` tells is as good as a drain.
pub async fn serve_http2_until<I, H>(
    io: I,
    work: Work,
    ending: impl Future<Output = ()>,
    handler: H,
) where
    I: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let serving = wire::serve(io, work, ending, |stream| answer_http2(&handler, stream));
    let ended = serving.await;
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP/2 connection ended");
    }
}

async fn answer_http2<H: Handler>(handler: &H, stream: wire::Stream) {
    let (mut parts, body) = stream.request.into_parts();
    parts.version = Version::HTTP_2;
    parts.extensions.insert(FromHttp2);
    if mesh::restore_upgrade(&mut parts).is_none() {
        return send(
            stream.respond,
            Failure::BadRequest.response(Asked::default()),
        )
        .await;
    }
    let interim = Interim::wanted(&mut parts);
    let request = Request::from_parts(parts, Body::http2(body));
    answer(stream.respond, interim, handler.handle(request)).await;
}

/// Answers a stream with what `handling` brings, or resets it, unless the client loses interest before. `interim` tells when
/// the client is to send its body.
pub async fn answer(
    mut respond: SendResponse<Bytes>,
    interim: Option<Interim>,
    handling: impl Future<Output = Result<Response<Body>, Reason>>,
) {
    let mut handling = pin!(handling);
    if let Some(interim) = interim {
        tokio::select! {
            biased;
            answered = handling.as_mut() => return end(respond, answered).await,
            () = interim.told() => {}
            _ = poll_fn(|context| respond.poll_reset(context)) => return,
        }
        let mut go_ahead = Response::new(());
        *go_ahead.status_mut() = StatusCode::CONTINUE;
        if let Err(error) = respond.send_informational(go_ahead) {
            tracing::debug!(%error, "a client was gone before it was told to go ahead");
        }
    }
    let answered = tokio::select! {
        biased;
        answered = handling => answered,
        _ = poll_fn(|context| respond.poll_reset(context)) => return,
    };
    end(respond, answered).await;
}

async fn end(mut respond: SendResponse<Bytes>, answered: Result<Response<Body>, Reason>) {
    match answered {
        Ok(response) => send(respond, response).await,
        Err(reason) => respond.send_reset(reason),
    }
}

async fn send(mut respond: SendResponse<Bytes>, response: Response<Body>) {
    let (mut parts, body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        parts.status = StatusCode::OK;
        if let Some(agreed) = parts.headers.remove(UPGRADE) {
            parts.headers.insert(wire::UPGRADE, agreed);
        }
    }
    parts.version = Version::HTTP_2;
    let empty = http_body::Body::is_end_stream(&body);
    let sent = match respond.send_response(Response::from_parts(parts, ()), empty) {
        Ok(_) if empty => return,
        Ok(stream) => wire::Send::new(stream, body)
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = sent {
        tracing::debug!(error, "a response was not sent whole");
    }
}
