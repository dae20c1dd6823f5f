//! The service: who may open a stream of load reports, and what is known of all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use xds_api::envoy::service::load_stats::v3::load_reporting_service_server::{
    LoadReportingService, LoadReportingServiceServer,
};
use xds_api::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use xds_api::load_metrics::SENDS_ALL;
use xds_api::maille::v1 as api;

use super::stream::{Reporting, asked, leaving};
use super::table::{Query, Table};
use super::{KEEP, NARROWEST, WINDOW};
use crate::model::State;
use crate::supervise::Stage;
use crate::telemetry::Metrics;
use crate::tls::{Caller, Link};
use crate::xds::server::admission::admit;
use crate::xds::server::open::{FIRST_REQUEST, until};

/// The largest report: an Envoy that names tens of thousands of clusters.
pub(super) const MAX_REQUEST: usize = 4 << 20;
/// What is on its way to the client: the one answer, and why the stream ends.
const ANSWERS: usize = 2;

/// Answers `envoy.service.load_stats.v3.LoadReportingService`, and knows what was said there. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LoadReports {
    shared: Arc<Shared>,
}

/// What every stream shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stage: Stage,
    states: watch::Receiver<Arc<State>>,
    controller: String,
    pub(super) interval: Duration,
    table: Mutex<Table>,
    pub(super) metrics: Counters,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) streams: Gauge,
    pub(super) reports: Counter,
    pub(super) refused: Counter,
    pub(super) left_out: Counter,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            let text = "Open streams of load reports";
            registry.register("load_streams", text, own.streams.clone());
            let text = "Load reports taken";
            registry.register("load_reports", text, own.reports.clone());
            let text = "Load reports refused";
            registry.register("load_reports_refused", text, own.refused.clone());
            let text = "Ports of services in load reports for which there was no room";
            registry.register("load_lines_left_out", text, own.left_out.clone());
        });
        own
    }
}

impl LoadReports {
    /// Nothing has been reported yet. Clients are asked for a report every `interval`.
    pub fn new(
        stage: &Stage,
        states: watch::Receiver<Arc<State>>,
        controller: &str,
        interval: Duration,
        metrics: &Metrics,
    ) -> Self {
        let shared = Shared {
            stage: stage.clone(),
            states,
            controller: controller.to_owned(),
            interval,
            table: Mutex::new(Table::new(interval, Instant::now())),
            metrics: Counters::new(metrics),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The tonic service. Its requests must carry a [`Caller`] and a [`Link`] in their extensions.
    pub fn server(&self) -> LoadReportingServiceServer<Self> {
        LoadReportingServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST)
    }

    /// What was reported to this controller.
    ///
    /// # Errors
    /// There is no such window.
    pub fn look(&self, request: &api::LoadsRequest) -> Result<api::LoadsResponse, Status> {
        let window = window(request)?;
        let query = Query { window, request };
        let (loads, reporters, full) = self.shared.table().look(&query, Instant::now());
        Ok(api::LoadsResponse {
            window_seconds: u32::try_from(window.as_secs()).unwrap_or(u32::MAX),
            loads,
            reporters,
            silent_controllers: Vec::new(),
            full_controllers: full
                .then(|| self.shared.controller.clone())
                .into_iter()
                .collect(),
        })
    }
}

/// The window that a request is answered for.
fn window(request: &api::LoadsRequest) -> Result<Duration, Status> {
    if request.window_seconds == 0 {
        return Ok(WINDOW);
    }
    let window = Duration::from_secs(u64::from(request.window_seconds));
    if (NARROWEST..=KEEP).contains(&window) {
        return Ok(window);
    }
    Err(Status::invalid_argument(format!(
        "a window of {window:?} was asked for; {NARROWEST:?} to {KEEP:?} can be answered for"
    )))
}

impl Shared {
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.states.borrow().clone()
    }
}

#[tonic::async_trait]
impl LoadReportingService for LoadReports {
    type StreamLoadStatsStream = ReceiverStream<Result<LoadStatsResponse, Status>>;

    /// The answer's head goes out once the first request was read and admitted.
    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let link = request.extensions().get::<Link>().cloned();
        let link = link.ok_or_else(|| Status::internal("the call came by no connection"))?;
        if link.is_leaving() {
            return Err(leaving());
        }
        let caller = request.extensions().get::<Caller>().cloned();
        let mut reports = request.into_inner();
        let first = first(&mut reports).await?;
        let spiffe_id = caller.as_ref().and_then(Caller::spiffe_id);
        let (claim, own) = admit(self.shared.state().mesh(), spiffe_id, first.node.as_ref())?;
        let sends_all = first.node.iter().flat_map(|node| &node.client_features);
        if !sends_all.into_iter().any(|feature| feature == SENDS_ALL) {
            return Err(Status::failed_precondition(format!(
                "the client does not say that it can report all of its clusters ({SENDS_ALL}): take a later one"
            )));
        }
        let end = caller.and_then(|caller| caller.leaf);
        let stream = Reporting::begin(self.shared.clone(), own, &claim, link)?;
        let (answers, outgoing) = mpsc::channel(ANSWERS);
        // The channel is new: there is room.
        drop(answers.try_send(Ok(asked(self.shared.interval))));
        let expires = Instant::now() + until(end.map_or(0, |leaf| leaf.term.not_after));
        self.shared.stage.task("load reports", async move {
            stream.run(first, reports, expires, answers).await;
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

/// The request with which the stream begins.
async fn first(reports: &mut Streaming<LoadStatsRequest>) -> Result<LoadStatsRequest, Status> {
    let first = tokio::time::timeout(FIRST_REQUEST, reports.message()).await;
    let silence =
        |_| Status::deadline_exceeded(format!("no request came within {FIRST_REQUEST:?}"));
    let first = first.map_err(silence)??;
    first.ok_or_else(|| Status::invalid_argument("the stream has no request"))
}
