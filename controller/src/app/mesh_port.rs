//! The port for the mesh: xDS, identity and registration over the mesh's own TLS.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::audit::Audit;
use crate::config::Config;
use crate::supervise::Stage;
use crate::tls::{self, AcceptLimits, Http2};

/// A whole mesh reconnects after a controller's death: of its handshakes so many are under way at once.
const HANDSHAKES: usize = 64;
/// A sidecar has one stream and a call or two at once; an agent relays a few.
const BOUNDS: Http2 = Http2 {
    keepalive: Duration::from_secs(15),
    keepalive_timeout: Duration::from_secs(10),
    streams: 64,
};

/// Serves until the stage stops; streams end then by themselves.
pub(super) fn serve(
    stage: &Stage,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    config: &Config,
    audit: &Audit,
    routes: Routes,
) {
    let limits = AcceptLimits {
        handshakes: HANDSHAKES,
        per_second: config.accept_per_second,
        burst: config.accept_burst,
    };
    let connections = tls::accept(stage, "xds", listener, tls, limits);
    let serving = stage.clone();
    let service = audit.watch("xds", routes.prepare());
    stage.vital("xds port", async move {
        tls::serve(&serving, connections, BOUNDS, service).await;
    });
}
