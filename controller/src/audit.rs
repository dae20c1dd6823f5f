//! Every refusal on the record: who asked at which port for what, and why it was refused. One place for all services: it looks at the status that
//! goes out.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower_service::Service;
use tracing::warn;

use crate::telemetry::Metrics;
use crate::tls::Caller;

/// A port's refusals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    port: &'static str,
}

/// Where refusals are counted and logged. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    refusals: Family<Labels, Counter>,
}

impl Audit {
    /// Counts in these metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let refusals: Family<Labels, Counter> = Family::default();
        let help = "Calls that were refused because of who called, by port";
        metrics.register(|registry| registry.register("refusals", help, refusals.clone()));
        Self { refusals }
    }

    /// A service of a port, watched.
    pub fn watch<S>(&self, port: &'static str, service: S) -> Audited<S> {
        Audited {
            service,
            port,
            refused: self.refusals.get_or_create(&Labels { port }).clone(),
        }
    }
}

/// A service whose refusals are put on the record.
#[derive(Clone)]
pub struct Audited<S> {
    service: S,
    port: &'static str,
    refused: Counter,
}

impl<S> fmt::Debug for Audited<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Audited({})", self.port)
    }
}

impl<S: NamedService> NamedService for Audited<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Audited<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (port, refused) = (self.port, self.refused.clone());
        let caller = request.extensions().get::<Caller>().cloned();
        let method = request.uri().path().to_owned();
        let answering = self.service.call(request);
        Box::pin(async move {
            let response = answering.await?;
            if let Some(status) = refusal(&response) {
                refused.inc();
                let who = caller.as_ref().map(Caller::describe).unwrap_or_default();
                warn!(
                    target: "audit",
                    port, who, method,
                    code = ?status.code(),
                    why = status.message(),
                    "refused"
                );
            }
            Ok(response)
        })
    }
}

/// The status of an answer that is none because of who asks. It stands in the head where nothing else was answered.
fn refusal(response: &http::Response<Body>) -> Option<Status> {
    let status = Status::from_header_map(response.headers())?;
    matches!(
        status.code(),
        Code::PermissionDenied | Code::Unauthenticated
    )
    .then_some(status)
}
