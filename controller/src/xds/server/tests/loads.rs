//! Streams of load reports over loopback.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};
use xds_api::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use xds_api::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use xds_api::load_metrics::SENDS_ALL;
use xds_api::maille::v1 as api;
use xds_api::node::NATIVE_AGENT;

use super::stage::{Stage, WEB, claim};
use super::*;

/// A client of load reports: its half of the stream, and what it was told.
struct Client {
    reports: mpsc::Sender<LoadStatsRequest>,
    answers: Streaming<LoadStatsResponse>,
    asked: LoadStatsResponse,
}

fn node(claim: &Claim) -> Node {
    let mut node = claim.message();
    node.client_features.push(SENDS_ALL.to_owned());
    node
}

fn request(node: Option<Node>, stats: Vec<ClusterStats>) -> LoadStatsRequest {
    LoadStatsRequest {
        node,
        cluster_stats: stats,
    }
}

/// So many requests to the sample's service.
fn called(issued: u64) -> ClusterStats {
    ClusterStats {
        cluster_name: "shop/web:80".to_owned(),
        upstream_locality_stats: vec![UpstreamLocalityStats {
            total_issued_requests: issued,
            total_successful_requests: issued,
            ..UpstreamLocalityStats::default()
        }],
        ..ClusterStats::default()
    }
}

impl Client {
    async fn open(stage: &Stage, first: LoadStatsRequest) -> Result<Self, Status> {
        let (reports, outgoing) = mpsc::channel(64);
        reports.try_send(first).unwrap();
        let mut client = LoadReportingServiceClient::new(stage.channel());
        let answers = client.stream_load_stats(ReceiverStream::new(outgoing));
        let mut answers = answers.await?.into_inner();
        let asked = answers.message().await?.unwrap();
        Ok(Self {
            reports,
            answers,
            asked,
        })
    }

    async fn report(&self, request: LoadStatsRequest) {
        self.reports.send(request).await.unwrap();
    }

    /// Why the server ends the stream.
    async fn end(mut self) -> Status {
        let ended = async {
            loop {
                match self.answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ended without a reason"),
                    Err(status) => return status,
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
        ended.expect("the server ends the stream")
    }
}

/// Waits until what is known is as wanted.
async fn known(stage: &Stage, wanted: impl Fn(&api::LoadsResponse) -> bool) -> api::LoadsResponse {
    let limit = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let known = stage.loads.look(&api::LoadsRequest::default()).unwrap();
        if wanted(&known) {
            return known;
        }
        assert!(tokio::time::Instant::now() < limit, "last seen: {known:?}");
        tokio::task::yield_now().await;
    }
}

fn issued(known: &api::LoadsResponse) -> u64 {
    known.loads.iter().map(|load| load.issued).sum()
}

#[tokio::test]
async fn a_client_is_asked_for_all_clusters_and_what_it_reports_is_known() {
    let stage = Stage::start(Some(WEB)).await;
    let client = Client::open(&stage, request(Some(node(&claim())), Vec::new()));
    let client = client.await.unwrap();
    assert!(client.asked.send_all_clusters && client.asked.clusters.is_empty());
    assert!(!client.asked.report_endpoint_granularity);
    let every = client.asked.load_reporting_interval.unwrap();
    assert_eq!((every.seconds, every.nanos), (10, 0));
    client.report(request(None, vec![called(5)])).await;
    // An Envoy repeats its node.
    let again = request(Some(node(&claim())), vec![called(6)]);
    client.report(again).await;
    let all = known(&stage, |known| issued(known) == 11).await;
    let load = &all.loads[0];
    assert_eq!(
        (&*load.client, &*load.kind, &*load.service, load.port),
        ("shop/web-1", NATIVE_AGENT, "shop/web", 80)
    );
    assert!(all.reporters[0].reports && all.full_controllers.is_empty());
}

#[tokio::test]
async fn what_a_first_request_brings_from_an_earlier_stream_counts() {
    let stage = Stage::start(Some(WEB)).await;
    let first = request(Some(node(&claim())), vec![called(7)]);
    let client = Client::open(&stage, first).await.unwrap();
    known(&stage, |known| issued(known) == 7).await;
    drop(client);
}

async fn check_refused(identity: Option<&str>, first: LoadStatsRequest, code: Code, text: &str) {
    let stage = Stage::start(identity).await;
    let refused = Client::open(&stage, first).await;
    let status = refused.err().unwrap();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(text), "{status}");
    let known = stage.loads.look(&api::LoadsRequest::default()).unwrap();
    assert!(known.reporters.is_empty(), "{known:?}");
}

#[tokio::test]
async fn a_node_must_be_the_callers_as_for_resources() {
    let own = || request(Some(node(&claim())), vec![called(1)]);
    check_refused(None, own(), Code::Unauthenticated, "certificate").await;
    let other = "spiffe://test.mesh/ns/shop/sa/other";
    check_refused(Some(other), own(), Code::PermissionDenied, "cannot be").await;
    let without = request(None, vec![called(1)]);
    check_refused(Some(WEB), without, Code::InvalidArgument, "no node").await;
    let stranger = Claim {
        agent: "curl".into(),
        ..claim()
    };
    let first = request(Some(node(&stranger)), Vec::new());
    check_refused(Some(WEB), first, Code::Unimplemented, "curl").await;
    let first = request(Some(claim().message()), Vec::new());
    check_refused(Some(WEB), first, Code::FailedPrecondition, SENDS_ALL).await;
}

/// Sends one report on a good stream; the stream ends with this, and nothing of the report is kept.
async fn check_ended(bad: LoadStatsRequest, code: Code, text: &str) {
    let stage = Stage::start(Some(WEB)).await;
    let client = Client::open(&stage, request(Some(node(&claim())), vec![called(3)]));
    let client = client.await.unwrap();
    client.report(bad).await;
    let status = client.end().await;
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(text), "{status}");
    let known = stage.loads.look(&api::LoadsRequest::default()).unwrap();
    assert_eq!(issued(&known), 3, "{known:?}");
}

#[tokio::test]
async fn a_bad_report_ends_its_stream_with_the_reason_and_nothing_of_it_is_kept() {
    let other = Claim {
        workload: "web-2".into(),
        ..claim()
    };
    let bad = request(Some(node(&other)), vec![called(1)]);
    let text = "node shop/web-1 reports for node \"shop/web-2\"";
    check_ended(bad, Code::PermissionDenied, text).await;
    let mut wrong = called(1);
    wrong.upstream_locality_stats = vec![UpstreamLocalityStats::default(); 257];
    let bad = request(None, vec![called(1), wrong]);
    let text = "a load report of shop/web-1: cluster \"shop/web:80\": it has 257 localities";
    check_ended(bad, Code::InvalidArgument, text).await;
    let large = ClusterStats {
        cluster_name: "x".repeat(5 << 20),
        ..ClusterStats::default()
    };
    let bad = request(None, vec![called(1), large]);
    check_ended(bad, Code::OutOfRange, "too large").await;
}

#[tokio::test]
async fn reports_far_more_often_than_asked_for_end_the_stream() {
    let stage = Stage::start(Some(WEB)).await;
    let client = Client::open(&stage, request(Some(node(&claim())), Vec::new()));
    let client = client.await.unwrap();
    for _ in 0..8 {
        client.report(request(None, vec![called(1)])).await;
    }
    let status = client.end().await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let known = stage.loads.look(&api::LoadsRequest::default()).unwrap();
    assert_eq!(issued(&known), 7);
}

#[tokio::test]
async fn a_controller_that_stops_sends_its_clients_on() {
    let stage = Stage::start(Some(WEB)).await;
    let client = Client::open(&stage, request(Some(node(&claim())), Vec::new()));
    let client = client.await.unwrap();
    let (status, ()) = tokio::join!(client.end(), stage.supervisor.stop());
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn a_workload_has_so_many_streams_and_a_window_its_bounds() {
    let stage = Stage::start(Some(WEB)).await;
    let first = || request(Some(node(&claim())), Vec::new());
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(Client::open(&stage, first()).await.unwrap());
    }
    let status = Client::open(&stage, first()).await.err().unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    for wrong in [9, 301] {
        let request = api::LoadsRequest {
            window_seconds: wrong,
            ..api::LoadsRequest::default()
        };
        let status = stage.loads.look(&request).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains("10s to 300s"), "{status}");
    }
}
