//! Passes calls on to a controller, bytes untouched, both ways, with trailers.

use super::relayed::Relayed;
use super::upstream::{Connection, Upstream, describe};
use crate::controllers::Controllers;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::supervise::Tasks;
use ::http::uri::{PathAndQuery, Scheme};
use ::http::{Request, Response, Uri};
use hyper::body::Incoming;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::Status;
use tracing::debug;

/// Calls under way at once. Envoy has one stream of ADS and one of load reports, a gRPC program one for each of its
/// targets' authorities; more than this is a loop.
const CALLS: usize = 32;
/// What may be under way unread on one call, each way: a response of the largest size that a controller sends at once.
pub(super) const STREAM_WINDOW: u32 = 1 << 20;
/// And on all calls of one connection.
pub(super) const WINDOW: u32 = 4 << 20;

/// The services that controllers answer.
const SERVICES: [&str; 2] = [
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/",
    "/envoy.service.load_stats.v3.LoadReportingService/",
];

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    /// A controller has answered.
    Relayed,
    /// No controller could be reached.
    Unavailable,
    /// There were too many at once.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

/// The way to the controllers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Relay {
    upstream: Arc<Upstream>,
    identity: Identity,
    calls: Arc<Semaphore>,
    outcomes: Family<Labels, Counter>,
}

impl Relay {
    /// A relay to one of these controllers at a time.
    pub fn new(
        controllers: Controllers,
        identity: Identity,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> Self {
        let outcomes: Family<Labels, Counter> = Family::default();
        let help = "Calls to the control plane by what became of them";
        metrics.register(|registry| registry.register("agent_calls", help, outcomes.clone()));
        Self {
            upstream: Arc::new(Upstream::new(controllers, tasks.clone())),
            identity,
            calls: Arc::new(Semaphore::new(CALLS)),
            outcomes,
        }
    }

    /// Whether this is a call for a controller.
    pub(super) fn takes(path: &str) -> bool {
        SERVICES.iter().any(|service| path.starts_with(service))
    }

    /// Ends what was opened with a certificate that has been replaced, so that a controller sees the new one.
    pub(super) async fn follow_renewals(self) {
        let mut credentials = self.identity.credentials();
        while credentials.changed().await.is_ok() {
            let current = credentials.borrow_and_update().clone();
            if let Some(current) = current {
                self.upstream.renewed(&current).await;
            }
        }
    }

    /// Passes one call on.
    pub(super) async fn pass(&self, request: Request<Incoming>) -> Response<tonic::body::Body> {
        let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
            self.count(Outcome::Refused);
            let text =
                format!("{CALLS} calls to the control plane are under way; that is the limit");
            return Status::resource_exhausted(text).into_http();
        };
        match self.try_pass(request).await {
            Ok((connection, response)) => {
                self.count(Outcome::Relayed);
                let why = gone(&connection);
                Relayed::answer(response, connection.ended, why, permit)
            }
            Err(why) => {
                self.count(Outcome::Unavailable);
                debug!(why, "a call is not passed on");
                Status::unavailable(why).into_http()
            }
        }
    }

    /// Once more where the first connection turned out to be closed before the call was on it.
    async fn try_pass(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<(Connection, Response<Incoming>), String> {
        let mut again = true;
        loop {
            let Some(credentials) = self.identity.current() else {
                return Err("the agent has no certificate yet".to_owned());
            };
            let connection = self.upstream.connection(&credentials).await;
            let mut connection = connection
                .map_err(|error| format!("no controller is reachable: {}", describe(&error)))?;
            address(&mut request, &connection);
            let ended = connection.ended.clone();
            let asking = connection.sender.try_send_request(request);
            let mut failure = tokio::select! {
                () = ended.cancelled() => return Err(gone(&connection)),
                answer = asking => match answer {
                    Ok(response) => return Ok((connection, response)),
                    Err(failure) => failure,
                },
            };
            self.upstream.forget(&connection).await;
            match failure.take_message().filter(|_| again) {
                Some(unsent) => request = unsent,
                None => {
                    return Err(format!(
                        "{}: {}",
                        gone(&connection),
                        describe(failure.error())
                    ));
                }
            }
            again = false;
        }
    }

    fn count(&self, outcome: Outcome) {
        self.outcomes.get_or_create(&Labels { outcome }).inc();
    }
}

fn gone(connection: &Connection) -> String {
    let controller = &connection.controller;
    format!("the connection to the controller at {controller} has ended")
}

/// The same path at the controller.
fn address(request: &mut Request<Incoming>, connection: &Connection) {
    let path = request.uri().path_and_query().cloned();
    let uri = Uri::builder()
        .scheme(Scheme::HTTPS)
        .authority(connection.controller.to_string())
        .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")))
        .build();
    // A controller's name may be no authority only where it is no name at all; then nothing was connected to.
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
}
