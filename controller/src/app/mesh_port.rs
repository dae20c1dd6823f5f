//! The port for the mesh: xDS, identity and registration over the mesh's own TLS.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;
use tracing::error;

use crate::supervise::Stage;
use crate::tls::{self, AcceptLimits};

/// A whole mesh reconnects after a controller's death: its handshakes must not cost an election, so they come at a pace.
const LIMITS: AcceptLimits = AcceptLimits {
    handshakes: 64,
    per_second: 500,
    burst: 1000,
};
/// A client that is gone without a word is found after this and a timeout.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long a client may take to answer a ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls at once on one connection: a sidecar has one stream and a call or two; an agent relays a few.
const STREAMS: u32 = 64;

/// Serves until the stage stops; streams end then by themselves.
pub(super) fn serve(
    stage: &Stage,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    routes: Routes,
) {
    let connections = tls::accept(stage, "xds", listener, config, LIMITS);
    let stopping = stage.stopping();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS)
        .tcp_nodelay(true)
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, stopping.cancelled_owned());
    stage.vital("xds port", async move {
        if let Err(failure) = server.await {
            error!(%failure, "the xDS port failed");
        }
    });
}
