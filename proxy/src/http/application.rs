//! Plain HTTP towards an application, an endpoint outside the mesh, or over mutual TLS an Envoy or a gRPC program: its HTTP/1
//! connections, kept and used again, and HTTP/2.

use super::body::Body;
use super::failure::{Failure, Unserved};
use super::interim;
use super::mesh;
use super::upgrade::{self, Upgrade};
use crate::net;
use crate::supervise::Tasks;
use crate::tls::Mesh;
use crate::wire::{Peer, Secured};
use http::header::{CONNECTION, COOKIE, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Connections kept without a request: more than a busy sidecar has under way, less than an application minds.
const IDLE_CONNECTIONS: usize = 256;
/// Servers close idle connections themselves, often after 60 s or 5 s; longer than this none is worth trying.
const IDLE: Duration = Duration::from_secs(50);
/// A connection that rested so long may be being closed just now, so what can be repeated is kept to be repeated.
const DOUBTFUL: Duration = Duration::from_millis(500);

/// One server that is spoken to in HTTP as it is.
#[derive(Debug)]
pub struct Application {
    dial: Dial,
    connect_limit: Duration,
    idle: Mutex<Vec<Idle>>,
    /// Whether a task is there that closes what rests too long.
    swept: AtomicBool,
    http2: Peer,
    tasks: Tasks,
}

#[derive(Debug)]
enum Dial {
    Plain(Vec<SocketAddr>),
    Secured(Secured),
}

#[derive(Debug)]
struct Idle {
    send: Sender,
    since: Instant,
}

/// An HTTP/1 connection.
#[derive(Debug)]
struct Sender {
    send: SendRequest<Body>,
    /// The certificate it was opened with.
    mesh: Option<Arc<Mesh>>,
}

/// Puts a connection back once its response is read.
#[derive(Debug)]
pub(super) struct CheckIn {
    application: Arc<Application>,
    send: Sender,
}

impl CheckIn {
    pub(super) fn done(self) {
        self.application.put(self.send);
    }
}

impl Application {
    /// In the clear. Tried in this order; the next where one refuses.
    pub fn new(addresses: Vec<SocketAddr>, connect_limit: Duration, tasks: Tasks) -> Self {
        let http2 = Peer::plain(addresses.clone(), tasks.clone());
        Self::by(Dial::Plain(addresses), http2, connect_limit, tasks)
    }

    /// Over mutual TLS: the ways for HTTP/1 and for HTTP/2.
    pub fn secured(http1: Secured, http2: Secured, connect_limit: Duration, tasks: Tasks) -> Self {
        let http2 = Peer::secured(http2, tasks.clone());
        Self::by(Dial::Secured(http1), http2, connect_limit, tasks)
    }

    fn by(dial: Dial, http2: Peer, connect_limit: Duration, tasks: Tasks) -> Self {
        Self {
            dial,
            http2,
            connect_limit,
            idle: Mutex::default(),
            swept: AtomicBool::new(false),
            tasks,
        }
    }

    /// A new connection of its own, in the clear. A server that is reached over mutual TLS is nowhere to be found so.
    pub async fn connect(&self) -> Result<TcpStream, net::ConnectError> {
        match &self.dial {
            Dial::Plain(addresses) => net::connect_any(addresses, self.connect_limit).await,
            Dial::Secured(_) => Err(net::ConnectError::Nowhere),
        }
    }

    /// Sends a request in the form that its version says. `queue` is asked before it waits for a connection; what it gives is
    /// held meanwhile.
    pub async fn exchange<Q>(
        self: &Arc<Self>,
        request: Request<Body>,
        queue: impl Fn() -> Result<Q, Failure>,
    ) -> Result<Response<Body>, Unserved> {
        if request.version() == Version::HTTP_2 {
            return mesh::exchange(
                &self.http2,
                self.connect_limit,
                &self.tasks,
                None,
                request,
                queue,
            )
            .await;
        }
        match self.take(&queue).await {
            Ok((send, rested)) => Ok(self.exchange_http1(send, rested, request, &queue).await?),
            Err(failure) => Err(Unserved::Unsent(Box::new(request), failure)),
        }
    }

    async fn exchange_http1<Q>(
        self: &Arc<Self>,
        mut send: Sender,
        mut rested: Duration,
        mut request: Request<Body>,
        queue: &impl Fn() -> Result<Q, Failure>,
    ) -> Result<Response<Body>, Failure> {
        let upgrade = request.extensions_mut().remove::<Upgrade>();
        restore(&mut request, upgrade.as_ref());
        interim::listen(&mut request);
        // The bytes after the upgrade are no body of the request.
        let bytes = upgrade.map(|_| std::mem::replace(request.body_mut(), Body::empty()));
        loop {
            let spare = (rested >= DOUBTFUL).then(|| repeatable(&request)).flatten();
            let unsent = match self.send(send, request).await {
                Ok((response, send)) => return Ok(self.receive(response, send, bytes)),
                Err(Broken { unsent }) => unsent.map(|unsent| *unsent),
            };
            // Only a connection that had rested may have been closed before it was asked: a new one failed for good.
            let again = if rested > Duration::ZERO {
                unsent.or(spare)
            } else {
                None
            };
            request = again.ok_or(Failure::Reset)?;
            (send, rested) = self.take(queue).await?;
        }
    }

    async fn send(
        &self,
        mut send: Sender,
        request: Request<Body>,
    ) -> Result<(Response<hyper::body::Incoming>, Sender), Broken> {
        match send.send.try_send_request(request).await {
            Ok(response) => Ok((response, send)),
            Err(mut error) => Err(Broken {
                unsent: error.take_message().map(Box::new),
            }),
        }
    }

    fn receive(
        self: &Arc<Self>,
        mut response: Response<hyper::body::Incoming>,
        send: Sender,
        upgraded: Option<Body>,
    ) -> Response<Body> {
        if let Some(body) = upgraded
            && (response.status() == StatusCode::SWITCHING_PROTOCOLS
                || response.status().is_success())
        {
            let (read, pending) = upgrade::pending(hyper::upgrade::on(&mut response));
            self.tasks.spawn(pending.run(body));
            return response.map(|_| read);
        }
        let connection = CheckIn {
            application: self.clone(),
            send,
        };
        response.map(|incoming| Body::http1_of(incoming, connection))
    }

    /// A connection that is ready, and how long it has rested; zero: it is new.
    async fn take<Q>(
        self: &Arc<Self>,
        queue: &impl Fn() -> Result<Q, Failure>,
    ) -> Result<(Sender, Duration), Failure> {
        while let Some(mut idle) = self.pop() {
            let rested = idle.since.elapsed();
            let fit = rested < IDLE && !idle.send.send.is_closed() && self.current(&idle.send);
            if fit && idle.send.send.ready().await.is_ok() {
                return Ok((idle.send, rested.max(Duration::from_nanos(1))));
            }
        }
        let _held = queue()?;
        // Boxed: connecting takes more room than all the rest of a request.
        Box::pin(self.open()).await
    }

    /// Whether a connection was made with the certificate in force. Where none can be seen now, what was opened stays good.
    fn current(&self, sender: &Sender) -> bool {
        let now = match &self.dial {
            Dial::Plain(_) => None,
            Dial::Secured(way) => way.mesh(),
        };
        match (&sender.mesh, now) {
            (Some(mesh), Some(now)) => Arc::ptr_eq(mesh, &now),
            _ => true,
        }
    }

    async fn open(&self) -> Result<(Sender, Duration), Failure> {
        let (send, mesh) = match &self.dial {
            Dial::Plain(_) => {
                let stream = self.connect().await.map_err(|error| {
                    tracing::debug!(%error, "no connection");
                    Failure::Connect
                })?;
                (self.begin(stream).await?, None)
            }
            Dial::Secured(way) => {
                let dialled = way.dial(self.connect_limit).await;
                let (stream, mesh) = dialled.map_err(|error| mesh::unreachable(&error))?;
                (self.begin(stream).await?, Some(mesh))
            }
        };
        Ok((Sender { send, mesh }, Duration::ZERO))
    }

    async fn begin<I>(&self, io: I) -> Result<SendRequest<Body>, Failure>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http1::Builder::new().handshake(TokioIo::new(io)).await;
        let (send, connection) = handshake.map_err(|_| Failure::Connect)?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an HTTP/1 connection ended");
            }
        });
        Ok(send)
    }

    fn pop(&self) -> Option<Idle> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn put(self: &Arc<Self>, send: Sender) {
        if send.send.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(Idle {
                send,
                since: Instant::now(),
            });
        }
        drop(idle);
        if !self.swept.swap(true, Ordering::Relaxed) {
            self.tasks.spawn(self.clone().sweep());
        }
    }

    /// Closes what rests too long, as long as anything does.
    async fn sweep(self: Arc<Self>) {
        let stopping = self.tasks.stopping();
        loop {
            tokio::select! {
                () = tokio::time::sleep(IDLE / 2) => {}
                () = stopping.cancelled() => return,
            }
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|idle| idle.since.elapsed() < IDLE && !idle.send.send.is_closed());
            if idle.is_empty() {
                return self.swept.store(false, Ordering::Relaxed);
            }
        }
    }
}

/// No response. `unsent` is there where the request never left.
struct Broken {
    unsent: Option<Box<Request<Body>>>,
}

/// A copy of a request that may be sent twice (RFC 9110 §9.2.2) and has no body.
fn repeatable(request: &Request<Body>) -> Option<Request<Body>> {
    let idempotent = request.method().is_idempotent();
    if !idempotent || !http_body::Body::is_end_stream(request.body()) {
        return None;
    }
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Gives the request the form that HTTP/1 servers expect: `Host`, a target without authority, one `Cookie`, `Upgrade`.
fn restore(request: &mut Request<Body>, upgrade: Option<&Upgrade>) {
    if let Some(authority) = request.uri().authority()
        && !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::try_from(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    if request.method() != Method::CONNECT
        && request.extensions().get::<FromHttp2>().is_some()
        && let Some(path) = request.uri().path_and_query()
    {
        *request.uri_mut() = Uri::from(path.clone());
    }
    join_cookies(request.headers_mut());
    if let Some(Upgrade(Some(protocol))) = upgrade {
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
}

/// In a request's extensions: it came as HTTP/2, so its target has an authority only for HTTP/2's sake.
#[derive(Debug, Clone, Copy)]
pub(super) struct FromHttp2;

/// HTTP/2 may split a cookie header, HTTP/1 must not (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}
