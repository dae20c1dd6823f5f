//! The small HTTP server under both ports.

use super::pages::{Admin, Scope};
use crate::config::Bind;
use crate::net;
use crate::supervise::Tasks;
use ::http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{info, warn};

/// Connections at once on one port: a scraper, probes and a person or two.
const CONNECTIONS: usize = 64;
/// A connection that sends nothing for so long makes room for another.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
/// The longest body is a log level.
const BODY_LIMIT: usize = 4 * 1024;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} ({field}); is another program there? Set {field} to a free address"
)]
pub struct BindError {
    address: SocketAddr,
    field: &'static str,
    source: io::Error,
}

/// Binds every address and starts serving. A v6 address that is only there by default may be missing.
pub fn bind(
    field: &'static str,
    binds: &[Bind],
    scope: Scope,
    admin: &Arc<Admin>,
    tasks: &Tasks,
) -> Result<(), BindError> {
    for bind in binds {
        let address = bind.address;
        match net::listen(address, false) {
            Ok(listener) => {
                info!(%address, "serving {field}");
                let serving = serve(listener, scope, Arc::clone(admin), tasks.clone());
                tasks.vital(field, serving);
            }
            Err(error) if !bind.required => warn!(%address, %error, "nothing here for {field}"),
            Err(source) => {
                return Err(BindError {
                    address,
                    field,
                    source,
                });
            }
        }
    }
    Ok(())
}

async fn serve(listener: TcpListener, scope: Scope, admin: Arc<Admin>, tasks: Tasks) {
    let stopping = tasks.stopping();
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (stream, _) = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = net::accept(&listener) => accepted,
        };
        // At the limit the newcomer is closed: it may come again, and nobody waits unseen.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            continue;
        };
        let (admin, stopping) = (Arc::clone(&admin), stopping.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = connection(stream, scope, admin) => {}
            }
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, scope: Scope, admin: Arc<Admin>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move {
            let (head, body) = request.into_parts();
            let body = Limited::new(body, BODY_LIMIT).collect().await;
            let body = body.map(|body| body.to_bytes());
            let response = match body {
                Ok(body) => admin.answer(scope, &head, &body),
                Err(error) => {
                    super::pages::text(400, format!("the body cannot be read: {error}\n"))
                }
            };
            Ok::<Response<Full<Bytes>>, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away in the middle is its own business.
    serving.await.ok();
}
