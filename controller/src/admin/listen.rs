//! Serving the admin API at both of its doors.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tracing::{error, info};
use xds_api::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryServiceServer;
use xds_api::maille::v1::admin_server::AdminServer;

use super::local::LocalListener;
use super::{AdminService, ClientStatusService};
use crate::audit::Audited;
use crate::supervise::Stage;
use crate::tls::{self, AcceptLimits};

/// People and their scripts.
const LIMITS: AcceptLimits = AcceptLimits {
    handshakes: 32,
    per_second: 200,
    burst: 400,
};
/// A dead client is found after two of these.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Where the admin API listens.
#[derive(Debug)]
pub struct Listening {
    /// The admin port.
    pub port: TcpListener,
    /// Its TLS: `peer_ca::admin_server_config`.
    pub tls: Arc<ServerConfig>,
    /// The root-only socket.
    pub socket: PathBuf,
}

/// What is served there.
#[derive(Debug, Clone)]
pub struct Services {
    /// Maille's own.
    pub admin: Audited<AdminServer<AdminService>>,
    /// CSDS.
    pub client_status: Audited<ClientStatusDiscoveryServiceServer<ClientStatusService>>,
}

/// Serves until the stage stops.
///
/// # Errors
/// The local socket cannot be made.
pub async fn serve(
    stage: &Stage,
    listening: Listening,
    services: Services,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let local = LocalListener::bind(&listening.socket).await?;
    let socket = listening.socket.display().to_string();
    let connections = tls::accept(stage, "admin", listening.port, listening.tls, LIMITS);
    let stopping = stage.stopping();
    let server = router(services.clone())
        .serve_with_incoming_shutdown(connections, stopping.cancelled_owned());
    stage.vital("admin", async move {
        if let Err(failure) = server.await {
            error!(%failure, "the admin port failed");
        }
    });
    let stopping = stage.stopping();
    let server = router(services)
        .serve_with_incoming_shutdown(local.accept(stage), stopping.cancelled_owned());
    stage.vital("local admin", async move {
        if let Err(failure) = server.await {
            error!(%failure, "the local admin socket failed");
        }
    });
    info!(socket, "the admin API is there");
    Ok(())
}

fn router(services: Services) -> Router {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(services.admin)
        .add_service(services.client_status)
}
