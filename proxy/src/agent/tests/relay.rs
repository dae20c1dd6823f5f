//! What is passed on to a controller, and what is said where there is none.

use super::World;
use crate::fakes::{Authority, Caller, Controller, front, front_on, serve, spiffe};
use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower_service::Service;
use xds_api::envoy::config::listener::v3::Listener;
use xds_api::node::{Claim, NATIVE_AGENT};
use xds_api::testing::{FakeClient, FakeServer};
use xds_api::type_url::TypeUrl;

const DELTAS: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const LOADS: &str = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";

/// Answers a call with its own bytes as they come, then with trailers; remembers who called with which headers.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<Seen>>>);

/// The caller's identity and the headers of one call.
type Seen = (Option<String>, HeaderMap);

impl NamedService for Echo {
    const NAME: &'static str = "envoy.service.load_stats.v3.LoadReportingService";
}

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().unwrap().0.clone();
        let headers = request.headers().clone();
        self.0.lock().unwrap().push((caller, headers));
        let trailers = async {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", 7.into());
            trailers.insert("grpc-message", "not%20today".parse().unwrap());
            trailers.insert("x-more", "kept".parse().unwrap());
            Some(Ok(trailers))
        };
        let body = request.into_body().with_trailers(trailers);
        ready(Ok(Response::new(Body::new(body))))
    }
}

type Frames = StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>;

/// One call by HTTP/2 alone: what is sent is what the test says.
struct Call {
    frames: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    response: Response<Incoming>,
    _sender: http2::SendRequest<Frames>,
}

impl Call {
    async fn open(world: &World, path: &str) -> Self {
        let stream = UnixStream::connect(&world.path).await.unwrap();
        let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, driving) = opened.unwrap();
        tokio::spawn(driving);
        let (frames, outgoing) = mpsc::channel(4);
        let request = Request::post(format!("http://agent{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-from", "envoy")
            .body(StreamBody::new(ReceiverStream::new(outgoing)));
        let response = sender.send_request(request.unwrap()).await.unwrap();
        Self {
            frames,
            response,
            _sender: sender,
        }
    }

    async fn send(&self, bytes: &'static [u8]) {
        let frame = Frame::data(Bytes::from_static(bytes));
        self.frames.send(Ok(frame)).await.unwrap();
    }

    async fn next(&mut self) -> Option<Frame<Bytes>> {
        let frame = tokio::time::timeout(Duration::from_secs(10), self.response.frame());
        frame.await.expect("nothing came").map(Result::unwrap)
    }

    /// The status that it ends with, in headers or in trailers.
    async fn status(&mut self) -> Status {
        if let Some(status) = Status::from_header_map(self.response.headers()) {
            return status;
        }
        let frame = self.next().await.unwrap();
        Status::from_header_map(&frame.into_trailers().unwrap()).unwrap()
    }
}

async fn echoing() -> (World, Echo, Controller) {
    let authority = Authority::new();
    let echo = Echo::default();
    let controller = serve(authority.controller(), Routes::new(echo.clone())).await;
    let world = World::new(authority, vec![controller.host_port()]);
    world.certify();
    (world, echo, controller)
}

#[tokio::test]
async fn bytes_go_both_ways_untouched_and_trailers_come_back() {
    let (world, echo, _controller) = echoing().await;
    let mut call = Call::open(&world, LOADS).await;
    // Neither is a message of gRPC: nobody on the way looks.
    for bytes in [&b"\x07not a message"[..], b"\0\0\0"] {
        call.send(bytes).await;
        let frame = call.next().await.unwrap();
        assert_eq!(frame.into_data().unwrap(), bytes);
    }
    let (other, _) = mpsc::channel(1);
    drop(std::mem::replace(&mut call.frames, other));
    let trailers = call.next().await.unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "7");
    assert_eq!(trailers["grpc-message"], "not%20today");
    assert_eq!(trailers["x-more"], "kept");
    assert!(call.next().await.is_none());
    let seen = echo.0.lock().unwrap();
    let (caller, headers) = &seen[0];
    assert_eq!(caller.as_deref(), Some(spiffe("shop", "web").as_str()));
    assert_eq!(headers["x-from"], "envoy");
    assert_eq!(headers["te"], "trailers");
}

#[tokio::test]
async fn a_call_ends_with_unavailable_when_its_controller_goes() {
    let authority = Authority::new();
    let server = FakeServer::start().await.unwrap();
    let controller = front(authority.controller(), server.address()).await;
    let world = World::new(authority, vec![controller.host_port()]);
    world.certify();
    let mut call = Call::open(&world, DELTAS).await;
    assert!(!call.response.headers().contains_key("grpc-status"));
    controller.stop().await;
    let status = call.status().await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("has ended"), "{status}");
    // Nobody else is there.
    let status = Call::open(&world, DELTAS).await.status().await;
    assert_eq!(status.code(), Code::Unavailable);
    let expected = "no controller is reachable";
    assert!(status.message().contains(expected), "{status}");
}

#[tokio::test]
async fn without_a_certificate_nothing_is_passed_on() {
    let world = World::new(Authority::new(), Vec::new());
    let status = Call::open(&world, LOADS).await.status().await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no certificate yet"), "{status}");
}

#[tokio::test]
async fn another_service_is_not_passed_on() {
    let (world, echo, _controller) = echoing().await;
    for path in ["/maille.v1.Identity/Certify", "/x", "/"] {
        let status = Call::open(&world, path).await.status().await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        // In the agent's own words, not in the controller's.
        assert!(status.message().contains("the agent serves"), "{status}");
    }
    assert!(echo.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_renewal_ends_what_the_old_certificate_has_opened() {
    let (world, echo, _controller) = echoing().await;
    let mut call = Call::open(&world, LOADS).await;
    world.certify();
    assert_eq!(call.status().await.code(), Code::Unavailable);
    let again = Call::open(&world, LOADS).await;
    again.send(b"x").await;
    assert_eq!(echo.0.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn there_is_a_limit_of_calls() {
    let (world, _echo, _controller) = echoing().await;
    let mut calls = Vec::new();
    let refused = loop {
        let mut call = Call::open(&world, LOADS).await;
        if call.response.headers().contains_key("grpc-status") {
            break call.status().await;
        }
        calls.push(call);
    };
    assert_eq!((refused.code(), calls.len()), (Code::ResourceExhausted, 32));
    let counted = world.metrics.encode().unwrap();
    assert!(counted.contains("agent_calls_total{outcome=\"Refused\"} 1"));
    assert!(counted.contains("agent_calls_total{outcome=\"Relayed\"} 32"));
}

fn client() -> FakeClient {
    let claim = Claim {
        namespace: "shop".into(),
        workload: "web-1".into(),
        agent: NATIVE_AGENT.into(),
        ..Claim::default()
    };
    FakeClient::new(claim.message())
}

#[tokio::test]
async fn a_client_of_ads_comes_to_another_controller_when_its_own_goes() {
    let authority = Authority::new();
    let server = FakeServer::start().await.unwrap();
    let first = front(authority.controller(), server.address()).await;
    let second = front(authority.controller(), server.address()).await;
    let second_address = second.address;
    let addresses = vec![first.host_port(), second.host_port()];
    let world = World::new(authority, addresses);
    world.certify();
    // Only the first is there.
    second.stop().await;
    let listener = Listener {
        name: "out/a:80".into(),
        ..Listener::default()
    };
    server.set("out/a:80", &listener);
    let mut client = client();
    client
        .subscribe(TypeUrl::Listener, &["out/a:80"])
        .await
        .unwrap();
    client.reconnect(world.channel().await).await.unwrap();
    assert_eq!(client.take().await.unwrap().resources.len(), 1);

    let _second = front_on(
        second_address,
        world.authority.controller(),
        server.address(),
    )
    .await;
    first.stop().await;
    let end = client.take().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    client.reconnect(world.channel().await).await.unwrap();
    let renamed = Listener {
        name: "changed".into(),
        ..Listener::default()
    };
    server.set("out/a:80", &renamed);
    let received = client.take().await.unwrap();
    assert_eq!(received.resources.len(), 1);
}
