//! gRPC's own health question, `grpc.health.v1.Health/Check`, over plain HTTP/2. Two messages of one field each stand here:
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use super::probe::Failure;
use prost::Message;
use std::net::SocketAddr;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// The answer is one number.
const ANSWER: usize = 1_024;

#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(enumeration = "State", tag = "1")]
    status: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum State {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

impl State {
    /// As gRPC's own tools write it.
    fn word(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// The application says `SERVING` of `service`. A connection of its own for each question: that it accepts one is part of it.
pub(super) async fn check(address: SocketAddr, service: &str) -> Result<(), Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(Failure::Connect)?;
    let channel = endpoint.connect().await.map_err(Failure::Connect)?;
    let mut client = Grpc::new(channel).max_decoding_message_size(ANSWER);
    client.ready().await.map_err(Failure::Connect)?;
    let question = Question {
        service: service.to_owned(),
    };
    let codec: ProstCodec<Question, Answer> = ProstCodec::default();
    let method = PathAndQuery::from_static(METHOD);
    let asked = client.unary(Request::new(question), method, codec).await;
    let answer = asked.map_err(|status| refused(&status, service))?;
    match answer.into_inner().status() {
        State::Serving => Ok(()),
        other => Err(Failure::NotServing(other.word())),
    }
}

fn refused(status: &Status, service: &str) -> Failure {
    match status.code() {
        Code::Unimplemented => Failure::NoHealthService,
        Code::NotFound => Failure::NoSuchService(service.to_owned()),
        code => Failure::Refused {
            code,
            text: status.message().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;
    use std::convert::Infallible;
    use std::sync::Arc;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::Response;
    use tonic::body::Body;
    use tonic::codegen::{Service, http};
    use tonic::server::{Grpc as Server, NamedService, UnaryService};
    use tonic::service::Routes;
    use tonic::transport::server::Server as Transport;

    /// A health service as gRPC's libraries have it: it knows some services, and says what it is told of them.
    #[derive(Clone)]
    struct Health(Arc<HashMap<&'static str, i32>>);

    impl NamedService for Health {
        const NAME: &'static str = "grpc.health.v1.Health";
    }

    impl UnaryService<Question> for Health {
        type Response = Answer;
        type Future = std::future::Ready<Result<Response<Answer>, Status>>;

        fn call(&mut self, request: Request<Question>) -> Self::Future {
            let known = self.0.get(request.get_ref().service.as_str());
            std::future::ready(match known {
                Some(status) => Ok(Response::new(Answer { status: *status })),
                None => Err(Status::not_found("unknown service")),
            })
        }
    }

    impl Service<http::Request<Body>> for Health {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future =
            std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let health = self.clone();
            Box::pin(async move {
                if request.uri().path() != METHOD {
                    return Ok(Status::unimplemented("no such method").into_http());
                }
                let codec: ProstCodec<Answer, Question> = ProstCodec::default();
                Ok(Server::new(codec).unary(health, request).await)
            })
        }
    }

    async fn listen() -> (SocketAddr, TcpListenerStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, TcpListenerStream::new(listener))
    }

    async fn outcome(address: SocketAddr, service: &str) -> String {
        match check(address, service).await {
            Ok(()) => "healthy".to_owned(),
            Err(failure) => failure.to_string(),
        }
    }

    #[tokio::test]
    async fn only_serving_is_healthy() {
        let known = [
            ("", 1),
            ("shop.Orders", 2),
            ("shop.Old", 0),
            ("shop.New", 9),
        ];
        let (address, incoming) = listen().await;
        let health = Health(Arc::new(known.into()));
        let server = Transport::builder().add_service(health);
        tokio::spawn(server.serve_with_incoming(incoming));
        for (service, expected) in [
            ("", "healthy"),
            ("shop.Orders", "it says NOT_SERVING"),
            ("shop.Old", "it says UNKNOWN"),
            // A status that nobody has defined yet reads as the first.
            ("shop.New", "it says UNKNOWN"),
            (
                "shop.None",
                "its health service does not know \"shop.None\"",
            ),
        ] {
            assert_eq!(outcome(address, service).await, expected, "of {service:?}");
        }
    }

    #[tokio::test]
    async fn an_application_without_the_health_service_is_named_as_such() {
        let (address, incoming) = listen().await;
        let server = Transport::builder().add_routes(Routes::default());
        tokio::spawn(server.serve_with_incoming(incoming));
        let expected = "it has no health service (grpc.health.v1.Health)";
        assert_eq!(outcome(address, "").await, expected);
    }

    #[tokio::test]
    async fn nobody_there_is_not_healthy() {
        let (address, incoming) = listen().await;
        drop(incoming);
        let found = outcome(address, "").await;
        assert!(found.starts_with("it cannot be asked: "), "{found}");
        assert!(found.contains("refused"), "{found}");
    }
}
