//! The gRPC services as HTTP services, so that their response bodies can share bytes.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower_service::Service;
use xds_api::services;

use super::Shared;
use super::open::open;

/// One of [`services::Service::ALL`], by its place there. Cheap to clone.
#[derive(Clone)]
pub(super) struct DiscoveryService<const PLACE: usize> {
    shared: Arc<Shared>,
}

/// Adds every service to a server.
pub(super) fn add_to(routes: Routes, shared: &Arc<Shared>) -> Routes {
    const { assert!(services::Service::ALL.len() == 7) };
    let routes = routes.add_service(DiscoveryService::<0>::new(shared));
    let routes = routes.add_service(DiscoveryService::<1>::new(shared));
    let routes = routes.add_service(DiscoveryService::<2>::new(shared));
    let routes = routes.add_service(DiscoveryService::<3>::new(shared));
    let routes = routes.add_service(DiscoveryService::<4>::new(shared));
    let routes = routes.add_service(DiscoveryService::<5>::new(shared));
    routes.add_service(DiscoveryService::<6>::new(shared))
}

impl<const PLACE: usize> DiscoveryService<PLACE> {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: shared.clone(),
        }
    }
}

impl<const PLACE: usize> fmt::Debug for DiscoveryService<PLACE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAME)
    }
}

impl<const PLACE: usize> NamedService for DiscoveryService<PLACE> {
    const NAME: &'static str = services::Service::ALL[PLACE].name;
}

impl<const PLACE: usize> Service<http::Request<Body>> for DiscoveryService<PLACE> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move {
            let answer = match services::Service::find(request.uri().path()) {
                Some((service, form)) => open(shared, service, form, request).await,
                None => Err(Status::unimplemented(format!(
                    "{} is not served: resources come by the streaming methods",
                    request.uri().path()
                ))),
            };
            Ok(answer.unwrap_or_else(Status::into_http))
        })
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
