//! Opaque bytes out: to an endpoint of the service, tried on others where one cannot be reached.

use super::binding::{BoundBackend, Cluster, choose};
use super::target::{OpaqueError, Target};
use super::{Outbound, binding::Bound};
use crate::balance::{Lease, Outcome, Permit};
use crate::metrics::{ConnectionLabels, Direction, Opened};
use crate::net;
use crate::shared::Shared;
use crate::tcp::{Upstream, relay};
use bytes::Bytes;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Endpoints that are tried for one connection.
const TRIES: usize = 3;

/// A connection to an endpoint, and the count of it.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) upstream: Upstream,
    pub(super) held: Held,
}

/// Counted as under way until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    lease: Lease<Target>,
    _permit: Permit,
    _opened: Opened,
}

/// Connects to one of the service's endpoints.
pub(super) async fn connect(bound: &Bound, key: u64) -> Result<Connected, OpaqueError> {
    let backend = choose(&bound.opaque).map(|(_, backend)| backend);
    let cluster = backend.and_then(|BoundBackend { cluster, .. }| cluster.as_ref());
    let cluster = cluster.ok_or(OpaqueError::Unavailable("the service does not exist"))?;
    let permit = cluster
        .connection()
        .map_err(|_| OpaqueError::Unavailable("maxConnections is reached"))?;
    let limit = cluster.cluster().connect_timeout;
    let mut tried = Vec::new();
    loop {
        let lease = cluster
            .pick(Instant::now(), key, &tried)
            .ok_or(OpaqueError::Unavailable("the service has no endpoint"))?;
        let connected = lease
            .state
            .kept
            .connect(limit, || lease.connected(Instant::now()))
            .await;
        report(cluster, &lease, connected.is_ok());
        match connected {
            Ok(upstream) => {
                let held = Held {
                    _opened: lease.state.kept.load.opened(),
                    lease,
                    _permit: permit,
                };
                return Ok(Connected { upstream, held });
            }
            // A refusal by policy is the same everywhere.
            Err(error @ OpaqueError::Refused(_)) => return Err(error),
            Err(error) => {
                tried.push(lease.state.clone());
                if tried.len() >= TRIES || !cluster.has_other(&tried) {
                    return Err(error);
                }
                tracing::debug!(%error, endpoint = %lease.state.endpoint.address, "trying another");
            }
        }
    }
}

fn report(cluster: &Cluster, lease: &Lease<Target>, connected: bool) {
    let now = Instant::now();
    let outcome = if connected {
        lease.answered(now);
        Outcome::Success
    } else {
        lease.failed(now);
        lease.state.kept.load.unopened();
        Outcome::GatewayFailure
    };
    cluster.report(&lease.state, outcome, now);
}

/// Carries a connection until both sides have ended.
pub(super) async fn carry(
    outbound: &Outbound,
    bound: &Arc<Bound>,
    client: TcpStream,
    first: Bytes,
    connected: Connected,
) {
    let Connected { upstream, held } = connected;
    let tls = match &upstream {
        Upstream::Tunnel(_) | Upstream::Secured(_) => "mesh",
        Upstream::Tcp(_) => "none",
    };
    let open = outbound.shared.metrics.connection(&ConnectionLabels {
        direction: Direction::Outbound,
        service: bound.service.to_string(),
        protocol: "tcp",
        tls,
        peer: held
            .lease
            .state
            .endpoint
            .mesh
            .as_ref()
            .map_or_else(String::new, |mesh| mesh.identity.to_string()),
    });
    if let Err(error) = relay(
        client,
        first,
        upstream,
        &open.metrics,
        std::future::pending(),
    )
    .await
    {
        tracing::debug!(%error, service = &*bound.service, "a connection broke off");
    }
}

/// No endpoint could be reached: the client sees what it would have seen without a proxy.
pub(super) fn refuse(outbound: &Outbound, bound: &Bound, client: TcpStream, error: &OpaqueError) {
    let mut cause = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        cause = format!("{cause}: {inner}");
        source = inner.source();
    }
    tracing::info!(service = &*bound.service, "no connection: {error}{cause}");
    outbound
        .shared
        .metrics
        .error(Direction::Outbound, &bound.service, "connect");
    net::reset(client);
}

/// Carries a connection to a destination outside the mesh.
pub(super) async fn pass(shared: &Shared, client: TcpStream, upstream: TcpStream) {
    let open = shared.metrics.connection(&ConnectionLabels {
        direction: Direction::Outbound,
        service: String::new(),
        protocol: "tcp",
        tls: "none",
        peer: String::new(),
    });
    let relayed = relay(
        client,
        Bytes::new(),
        Upstream::Tcp(upstream),
        &open.metrics,
        std::future::pending(),
    );
    if let Err(error) = relayed.await {
        tracing::debug!(%error, "a connection out of the mesh broke off");
    }
}
