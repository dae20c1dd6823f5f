//! Load reports: tells a controller what was counted, on a connection of its own, so that no stream of resources waits for it.

use super::client::describe;
use super::workload::Workload;
use crate::config::HostPort;
use crate::controllers::{Backoff, ConnectError, Controllers, connect};
use crate::identity::{Credentials, Identity};
use crate::metrics::{ClusterCounts, Counts, Loads};
use crate::snapshot::Locality;
use crate::supervise::Tasks;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{debug, info};
use xds_api::envoy::config::core::v3 as core;
use xds_api::envoy::config::endpoint::v3::{
    ClusterStats, EndpointLoadMetricStats, UpstreamLocalityStats,
};
use xds_api::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use xds_api::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use xds_api::google::protobuf;
use xds_api::load_metrics::{ANSWER_SECONDS, SENDS_ALL};

/// Between rounds over all controllers. Nothing is lost meanwhile: what was counted stays until it is reported.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Reports that wait to be sent: one, and the first.
const OUTGOING: usize = 2;
/// From the first request to the answer that says what is asked for.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// For a report to be taken by the connection.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// A controller's wish is honoured between these.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// An answer says some names at most.
const RESPONSE_LIMIT: usize = 4 << 20;

/// Starts to report. It waits for the first certificate by itself.
pub fn report(
    controllers: Controllers,
    workload: Workload,
    mut identity: Identity,
    loads: Loads,
    tasks: &Tasks,
) {
    let stopping = tasks.stopping();
    let reporting = async move {
        identity.first().await;
        let mut reporter = Reporter {
            controllers,
            workload,
            credentials: identity.credentials(),
            loads,
            taken: Instant::now(),
        };
        reporter.talk().await;
    };
    tasks.vital("load reports", async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = reporting => {}
        }
    });
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the controller ended the stream: {} ({:?})", .0.message(), .0.code())]
    Refused(Status),
    #[error("the controller closed the stream")]
    Closed,
    #[error("the controller took nothing for {0:?}")]
    Silence(Duration),
    #[error("there is a new certificate; the stream begins anew with it")]
    Renewed,
}

struct Reporter {
    controllers: Controllers,
    workload: Workload,
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
    loads: Loads,
    /// When counts were last taken.
    taken: Instant,
}

/// What a controller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    every: Duration,
    /// `None`: all.
    clusters: Option<Vec<String>>,
}

impl Reporter {
    /// One stream after the other, for as long as the process lives.
    async fn talk(&mut self) {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut last = None;
        loop {
            for controller in self.controllers.shuffled_after(last.as_ref()) {
                if self.stream(&controller).await {
                    last = Some(controller);
                    backoff.reset();
                    break;
                }
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// One stream from its beginning to its end. Answers whether it was opened.
    async fn stream(&mut self, controller: &HostPort) -> bool {
        let Some(credentials) = self.credentials.borrow_and_update().clone() else {
            return false;
        };
        let mut opened = false;
        let end = match self.open(controller, &credentials).await {
            Err(end) => end,
            Ok((reports, answers, asked)) => {
                opened = true;
                info!(%controller, every = ?asked.every, "reports what is called");
                match self.keep_on(&credentials, &reports, answers, asked).await {
                    Ok(never) => match never {},
                    Err(end) => end,
                }
            }
        };
        // The stream of resources, to the same controllers, says it aloud.
        debug!(%controller, error = describe(&end), "no stream for load reports");
        opened
    }

    async fn open(
        &self,
        controller: &HostPort,
        credentials: &Arc<Credentials>,
    ) -> Result<
        (
            mpsc::Sender<LoadStatsRequest>,
            Streaming<LoadStatsResponse>,
            Asked,
        ),
        End,
    > {
        let channel = connect(controller, credentials.controller()).await?;
        let (reports, outgoing) = mpsc::channel(OUTGOING);
        let mut node = self.workload.claim(credentials).message();
        node.client_features.push(SENDS_ALL.to_owned());
        let first = LoadStatsRequest {
            node: Some(node),
            cluster_stats: Vec::new(),
        };
        reports.try_send(first).map_err(|_| End::Closed)?;
        let mut client =
            LoadReportingServiceClient::new(channel).max_decoding_message_size(RESPONSE_LIMIT);
        let opening = async {
            let answers = client
                .stream_load_stats(ReceiverStream::new(outgoing))
                .await;
            let mut answers = answers.map_err(End::Refused)?.into_inner();
            let first = heard(answers.message().await)?;
            Ok::<_, End>((answers, first))
        };
        let opened = timeout(OPEN_LIMIT, opening).await;
        let (answers, first) = opened.map_err(|_| End::Silence(OPEN_LIMIT))??;
        Ok((reports, answers, asked(first)))
    }

    async fn keep_on(
        &mut self,
        credentials: &Arc<Credentials>,
        reports: &mpsc::Sender<LoadStatsRequest>,
        mut answers: Streaming<LoadStatsResponse>,
        mut asked: Asked,
    ) -> Result<Infallible, End> {
        let mut due = Instant::now() + asked.every;
        loop {
            tokio::select! {
                answer = answers.message() => {
                    asked = self::asked(heard(answer)?);
                    due = due.min(Instant::now() + asked.every);
                }
                () = tokio::time::sleep_until(due) => {
                    send(reports, self.take(&asked)).await?;
                    due = Instant::now() + asked.every;
                }
                _ = self.credentials.changed() => {
                    let current = self.credentials.borrow_and_update().clone();
                    // New roots alone need no new stream.
                    if current.is_some_and(|current| current.chain != credentials.chain) {
                        return Err(End::Renewed);
                    }
                }
            }
        }
    }

    /// The next report. An empty one is sent, too: so it is known that nothing was called.
    fn take(&mut self, asked: &Asked) -> LoadStatsRequest {
        let now = Instant::now();
        let covers = now.saturating_duration_since(self.taken);
        self.taken = now;
        let wanted = |counts: &ClusterCounts| match &asked.clusters {
            None => true,
            Some(names) => names.iter().any(|name| **name == *counts.name),
        };
        let counts = self.loads.take().into_iter().filter(wanted);
        LoadStatsRequest {
            node: None,
            cluster_stats: counts.map(|one| cluster_stats(one, covers)).collect(),
        }
    }
}

fn asked(answer: LoadStatsResponse) -> Asked {
    let every = answer.load_reporting_interval.unwrap_or_default();
    let seconds = u64::try_from(every.seconds).unwrap_or_default();
    let nanos = u32::try_from(every.nanos).unwrap_or_default();
    let every = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()));
    Asked {
        every: every.clamp(INTERVALS.0, INTERVALS.1),
        clusters: (!answer.send_all_clusters).then_some(answer.clusters),
    }
}

fn heard(answer: Result<Option<LoadStatsResponse>, Status>) -> Result<LoadStatsResponse, End> {
    answer.map_err(End::Refused)?.ok_or(End::Closed)
}

async fn send(
    reports: &mpsc::Sender<LoadStatsRequest>,
    report: LoadStatsRequest,
) -> Result<(), End> {
    match timeout(SEND_LIMIT, reports.send(report)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Closed),
        Err(_) => Err(End::Silence(SEND_LIMIT)),
    }
}

fn cluster_stats(counts: ClusterCounts, covers: Duration) -> ClusterStats {
    let localities = counts.localities.into_iter();
    ClusterStats {
        cluster_name: counts.name.to_string(),
        cluster_service_name: String::new(),
        upstream_locality_stats: localities
            .map(|(locality, counts)| locality_stats(&locality, &counts))
            .collect(),
        total_dropped_requests: counts.dropped,
        load_report_interval: Some(protobuf::Duration {
            seconds: i64::try_from(covers.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(covers.subsec_nanos()).unwrap_or_default(),
        }),
    }
}

fn locality_stats(locality: &Locality, counts: &Counts) -> UpstreamLocalityStats {
    let timed = EndpointLoadMetricStats {
        metric_name: ANSWER_SECONDS.to_owned(),
        num_requests_finished_with_metric: counts.timed,
        total_metric_value: counts.time.as_secs_f64(),
    };
    UpstreamLocalityStats {
        locality: Some(core::Locality {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            sub_zone: String::new(),
        }),
        total_successful_requests: counts.succeeded,
        total_requests_in_progress: counts.in_progress,
        total_error_requests: counts.failed,
        total_issued_requests: counts.issued,
        total_active_connections: counts.open,
        total_new_connections: counts.opened,
        total_fail_connections: counts.unopened,
        load_metric_stats: (counts.timed > 0).then_some(timed).into_iter().collect(),
        priority: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: LoadStatsResponse, every: Duration, clusters: Option<&[&str]>) {
        let clusters = clusters.map(|names| names.iter().map(ToString::to_string).collect());
        assert_eq!(asked(answer), Asked { every, clusters });
    }

    #[test]
    fn a_controllers_wish_is_honoured_within_bounds() {
        let every = |seconds, nanos| Some(protobuf::Duration { seconds, nanos });
        let all = LoadStatsResponse {
            send_all_clusters: true,
            load_reporting_interval: every(2, 500_000_000),
            ..LoadStatsResponse::default()
        };
        check(all.clone(), Duration::from_millis(2_500), None);
        for (seconds, expected) in [(0, 1), (-5, 1), (i64::MAX, 3600)] {
            let load_reporting_interval = every(seconds, 0);
            let answer = LoadStatsResponse {
                load_reporting_interval,
                ..all.clone()
            };
            check(answer, Duration::from_secs(expected), None);
        }
        let some = LoadStatsResponse {
            clusters: vec!["demo/web:80".to_owned()],
            ..LoadStatsResponse::default()
        };
        check(some, Duration::from_secs(1), Some(&["demo/web:80"]));
    }
}
