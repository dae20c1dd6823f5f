//! What is kept with an endpoint: the way to it.

use crate::http::{Application, Body, Failure, Unserved, exchange};
use crate::metrics::Load;
use crate::net::ConnectError;
use crate::shared::Shared;
use crate::snapshot::{Endpoint, MeshForm};
use crate::tcp::{SecuredStream, Upstream};
use crate::tls::Form;
use crate::wire::{self, DialError, Peer, Secured, Tunnel};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// Connections that may turn out to be closing before one takes the stream.
const LEASES: usize = 4;

/// One endpoint: the way to it, and where calls to it are counted.
#[derive(Debug)]
pub(super) struct Target {
    way: Way,
    /// Of the locality that the endpoint had when it came.
    pub(super) load: Arc<Load>,
}

/// The way to one endpoint.
#[derive(Debug)]
enum Way {
    /// By `maille/1`. Never in plain text.
    Mesh {
        peer: Box<Peer>,
        /// `maille-port`.
        port: HeaderValue,
        tasks: crate::supervise::Tasks,
    },
    /// Over mutual TLS in the application's own protocol: an Envoy, or a gRPC program. One TLS connection is one opaque
    /// connection.
    Foreign {
        application: Arc<Application>,
        opaque: Box<Secured>,
    },
    /// In plain text, as it is not in the mesh.
    Plain(Arc<Application>),
}

/// Why there is no opaque connection to an endpoint.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpaqueError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the stream failed")]
    Stream(#[from] h2::Error),
    #[error("the peer refused the stream: {0}")]
    Refused(String),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("the client is gone")]
    Client(#[from] std::io::Error),
    #[error("{0}")]
    Unavailable(&'static str),
}

impl Target {
    pub(super) fn new(
        endpoint: &Endpoint,
        connect_limit: Duration,
        shared: &Shared,
        load: Arc<Load>,
    ) -> Self {
        Self {
            way: Way::new(endpoint, connect_limit, shared),
            load,
        }
    }

    /// Sends a request. `queue` is asked before it waits for a connection.
    pub(super) async fn exchange<Q>(
        &self,
        request: Request<Body>,
        limit: Duration,
        queue: impl Fn() -> Result<Q, Failure>,
    ) -> Result<Response<Body>, Unserved> {
        match &self.way {
            Way::Mesh { peer, port, tasks } => {
                exchange(peer, limit, tasks, Some(port), request, queue).await
            }
            Way::Foreign { application, .. } | Way::Plain(application) => {
                application.exchange(request, queue).await
            }
        }
    }

    /// Opens an opaque connection. `connected` is called when there is one to the proxy of a meshed endpoint.
    pub(super) async fn connect(
        &self,
        limit: Duration,
        connected: impl FnOnce(),
    ) -> Result<Upstream, OpaqueError> {
        match &self.way {
            Way::Plain(application) => Ok(Upstream::Tcp(application.connect().await?)),
            Way::Foreign { opaque, .. } => {
                let (tls, _) = opaque.dial(limit).await?;
                connected();
                Ok(Upstream::Secured(Box::new(SecuredStream::new(tls))))
            }
            Way::Mesh { peer, port, .. } => tunnel(peer, port, limit, connected)
                .await
                .map(Upstream::Tunnel),
        }
    }
}

impl Way {
    fn new(endpoint: &Endpoint, connect_limit: Duration, shared: &Shared) -> Self {
        let (tasks, metrics) = (shared.tasks.clone(), shared.metrics.clone());
        let Some(address) = &endpoint.mesh else {
            let addresses = vec![endpoint.address];
            let application = Application::new(addresses, connect_limit, tasks);
            return Self::Plain(Arc::new(application));
        };
        let way = |form| {
            let (mesh, metrics) = (shared.mesh.clone(), metrics.clone());
            Secured::new(endpoint.address, address, form, mesh, metrics)
        };
        match address.form {
            MeshForm::Native => Self::Mesh {
                peer: Box::new(Peer::secured(way(Form::Native), tasks.clone())),
                port: HeaderValue::from(endpoint.address.port()),
                tasks,
            },
            MeshForm::Plain => {
                let (http1, http2) = (way(Form::Http1), way(Form::Http2));
                let application = Application::secured(http1, http2, connect_limit, tasks);
                Self::Foreign {
                    application: Arc::new(application),
                    opaque: Box::new(way(Form::Opaque)),
                }
            }
        }
    }
}

async fn tunnel(
    peer: &Peer,
    port: &HeaderValue,
    limit: Duration,
    connected: impl FnOnce(),
) -> Result<Tunnel, OpaqueError> {
    let mut leases = 0;
    let (lease, mut send) = loop {
        let lease = peer.lease(limit).await?;
        let mut send = lease.send();
        match poll_fn(|context| send.poll_ready(context)).await {
            Ok(()) => break (lease, send),
            Err(error) if leases >= LEASES => return Err(error.into()),
            Err(_) => lease.close(),
        }
        leases += 1;
    };
    connected();
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::from_static("maille");
    request.headers_mut().insert(wire::PORT, port.clone());
    request.headers_mut().insert(wire::FORM, wire::TCP);
    let (response, stream) = send.send_request(request, false)?;
    // The peer answers once its application has taken the connection.
    let response = tokio::time::timeout(limit, response)
        .await
        .map_err(|_| OpaqueError::TimedOut(limit))??;
    if response.status() != StatusCode::OK {
        let reason = response.headers().get(crate::http::ERROR);
        let reason = reason
            .and_then(|reason| reason.to_str().ok())
            .unwrap_or("no reason given");
        return Err(OpaqueError::Refused(reason.to_owned()));
    }
    Ok(Tunnel::new(stream, response.into_body()).counted(lease))
}
