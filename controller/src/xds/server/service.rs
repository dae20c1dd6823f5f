//! The gRPC service as an HTTP service, so that its response bodies can share bytes.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use tonic::server::NamedService;
use tower_service::Service;
use xds_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::Shared;
use super::open::open;

const NAME: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Requests are small but for the first of a type; a big buffer for each of ten thousand streams would be most of their memory.
const READ_BUFFER: usize = 512;

/// The aggregated discovery service, to be added to a gRPC server. Cheap to clone.
#[derive(Clone)]
pub struct AdsService {
    shared: Arc<Shared>,
}

impl AdsService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl fmt::Debug for AdsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdsService")
    }
}

impl NamedService for AdsService {
    const NAME: &'static str = NAME;
}

impl Service<http::Request<Body>> for AdsService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move {
            let answer = match request.uri().path() {
                DELTA => open(shared, request).await,
                path => Err(Status::unimplemented(format!(
                    "{path} is not served: use delta ADS, {DELTA}"
                ))),
            };
            Ok(answer.unwrap_or_else(Status::into_http))
        })
    }
}

/// Reads requests.
#[derive(Debug, Default)]
pub(super) struct RequestDecoder;

impl Decoder for RequestDecoder {
    type Item = DeltaDiscoveryRequest;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let wrong = |failure: prost::DecodeError| {
            Status::invalid_argument(format!("not a delta discovery request: {failure}"))
        };
        DeltaDiscoveryRequest::decode(bytes)
            .map(Some)
            .map_err(wrong)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(READ_BUFFER, READ_BUFFER)
    }
}

/// A response body that takes its pieces from a stream's task.
#[derive(Debug)]
pub(super) struct Pieces(pub(super) mpsc::Receiver<Frame<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(Ok))
    }
}
