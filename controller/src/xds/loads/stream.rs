//! One stream: what its client is asked for, what it reports, and when it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::{debug, info};
use xds_api::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use xds_api::google::protobuf;
use xds_api::node::Claim;

use super::report;
use super::service::Shared;
use crate::tls::Link;
use crate::xds::scope::Own;

/// Reports that may come early: the first at once, and some that have waited for the connection.
const EARLY: u32 = 8;
/// Beyond those, so many for each that was asked for.
const OFTEN: u32 = 2;

/// A client that reports. The table knows of it until this is dropped.
#[derive(Debug)]
pub(super) struct Reporting {
    shared: Arc<Shared>,
    own: Own,
    /// The node's id.
    node: String,
    link: Link,
    began: Instant,
    taken: u32,
}

/// Why a stream is over.
enum Ended {
    /// The client has gone; there is nobody to tell.
    ByClient,
    /// With a status that the client is told.
    With(Status),
}

/// What a client is asked for. By endpoint would be more than anybody looks at.
pub(super) fn asked(interval: Duration) -> LoadStatsResponse {
    LoadStatsResponse {
        clusters: Vec::new(),
        send_all_clusters: true,
        load_reporting_interval: Some(protobuf::Duration {
            seconds: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
            nanos: 0,
        }),
        report_endpoint_granularity: false,
    }
}

pub(super) fn leaving() -> Status {
    Status::unavailable("this connection is ending: report to another controller")
}

impl Reporting {
    pub(super) fn begin(
        shared: Arc<Shared>,
        own: Own,
        claim: &Claim,
        link: Link,
    ) -> Result<Self, Status> {
        let began = Instant::now();
        let entered = shared.table().enter(&own.workload, &claim.agent, began);
        entered.map_err(|full| Status::resource_exhausted(full.to_string()))?;
        shared.metrics.streams.inc();
        Ok(Self {
            node: claim.id(),
            shared,
            own,
            link,
            began,
            taken: 0,
        })
    }

    /// Takes reports until either side ends it.
    pub(super) async fn run(
        mut self,
        first: LoadStatsRequest,
        reports: Streaming<LoadStatsRequest>,
        expires: Instant,
        answers: mpsc::Sender<Result<LoadStatsResponse, Status>>,
    ) {
        let node = self.node.clone();
        match self.hear(first, reports, expires).await {
            Ended::ByClient => debug!(node, "a stream of load reports was ended by its client"),
            Ended::With(status) => {
                info!(node, code = ?status.code(), reason = status.message(), "ends a stream of load reports");
                // A client that reads nothing learns it from the connection alone.
                drop(answers.try_send(Err(status)));
            }
        }
    }

    async fn hear(
        &mut self,
        first: LoadStatsRequest,
        mut reports: Streaming<LoadStatsRequest>,
        expires: Instant,
    ) -> Ended {
        let mut next = first;
        loop {
            if let Err(status) = self.take(&next) {
                self.shared.metrics.refused.inc();
                return Ended::With(status);
            }
            next = tokio::select! {
                report = reports.message() => match report {
                    Ok(Some(report)) => report,
                    Ok(None) => return Ended::ByClient,
                    Err(status) if status.code() == tonic::Code::OutOfRange => {
                        self.shared.metrics.refused.inc();
                        return Ended::With(status);
                    }
                    Err(_) => return Ended::ByClient,
                },
                () = tokio::time::sleep_until(expires) => {
                    let text = "the certificate of this stream has expired: renew it and connect again";
                    return Ended::With(Status::unauthenticated(text));
                }
                () = self.link.leaving() => return Ended::With(leaving()),
            };
        }
    }

    /// Takes one report, or says why it is refused.
    fn take(&mut self, request: &LoadStatsRequest) -> Result<(), Status> {
        self.taken = self.taken.saturating_add(1);
        if self.taken > most(self.began.elapsed(), self.shared.interval) {
            return Err(Status::resource_exhausted(format!(
                "reports come more than {OFTEN} times as often as every {:?}, which was asked for",
                self.shared.interval
            )));
        }
        // An Envoy repeats its node every time.
        let other = request.node.as_ref().filter(|node| node.id != self.node);
        if let Some(other) = other {
            return Err(Status::permission_denied(format!(
                "the stream of node {} reports for node {:.100?}",
                self.node, other.id
            )));
        }
        let state = self.shared.state();
        let read = report::read(state.mesh(), self.own.dialect, &request.cluster_stats);
        let report = read.map_err(|why| {
            Status::invalid_argument(format!("a load report of {}: {why}", self.node))
        })?;
        let left_out = self
            .shared
            .table()
            .take(&self.own.workload, report, Instant::now());
        self.shared.metrics.reports.inc();
        self.shared.metrics.left_out.inc_by(left_out as u64);
        Ok(())
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.shared.table().leave(&self.own.workload);
        self.shared.metrics.streams.dec();
    }
}

/// How many reports may have come after so long.
fn most(elapsed: Duration, interval: Duration) -> u32 {
    let due = elapsed.as_secs() / interval.as_secs().max(1);
    EARLY.saturating_add(u32::try_from(due).unwrap_or(u32::MAX).saturating_mul(OFTEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_may_come_a_little_early_and_not_much_more_often_than_asked_for() {
        let most = |seconds| most(Duration::from_secs(seconds), Duration::from_secs(10));
        assert_eq!((most(0), most(9), most(10), most(100)), (8, 8, 10, 28));
    }
}
