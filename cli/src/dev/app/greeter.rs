//! The gRPC service: one unary and one server-streaming method, by hand on tonic, so that the demo needs no protoc.

use std::convert::Infallible;
use std::pin::Pin;

use futures_util::Stream;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::args::dev::Server;
use crate::failure::Outcome;

use super::reply::{Hello, Reply};
use super::serve;
use super::server::seen;

/// The unary method.
pub(super) const HELLO: &str = "/demo.Greeter/Hello";
/// The streaming method.
pub(super) const STREAM: &str = "/demo.Greeter/Stream";
/// How many messages a stream has.
pub(super) const STREAM_LENGTH: usize = 3;

pub(super) async fn run(args: &Server) -> Outcome {
    let name = args.name.clone();
    serve(args, async move |stream: TcpStream| {
        let service = service_fn(|request| answer(Greeter { name: name.clone() }, request));
        if stream.set_nodelay(true).is_ok() {
            // A client that went away is its own business.
            let _gone = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

async fn answer(
    mut greeter: Greeter,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_string();
    let mut grpc = Grpc::new(ProstCodec::<Reply, Hello>::default());
    Ok(match path.as_str() {
        HELLO => grpc.unary(&mut greeter, request).await,
        STREAM => grpc.server_streaming(&mut greeter, request).await,
        other => Status::new(Code::Unimplemented, format!("no method {other}")).into_http(),
    })
}

struct Greeter {
    name: String,
}

impl Greeter {
    fn reply(&self, request: tonic::Request<Hello>) -> Reply {
        let (metadata, _, hello) = request.into_parts();
        Reply {
            server: self.name.clone(),
            xfcc: seen(&metadata.into_headers()),
            echo: hello.body,
        }
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;
type Replies = Pin<Box<dyn Stream<Item = Result<Reply, Status>> + Send>>;

impl UnaryService<Hello> for &mut Greeter {
    type Response = Reply;
    type Future = Answer<Reply>;

    fn call(&mut self, request: tonic::Request<Hello>) -> Self::Future {
        let reply = self.reply(request);
        Box::pin(async move { Ok(tonic::Response::new(reply)) })
    }
}

impl ServerStreamingService<Hello> for &mut Greeter {
    type Response = Reply;
    type ResponseStream = Replies;
    type Future = Answer<Replies>;

    fn call(&mut self, request: tonic::Request<Hello>) -> Self::Future {
        let replies = vec![Ok(self.reply(request)); STREAM_LENGTH];
        let replies: Replies = Box::pin(futures_util::stream::iter(replies));
        Box::pin(async move { Ok(tonic::Response::new(replies)) })
    }
}
