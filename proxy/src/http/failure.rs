//! What the proxy answers where it cannot pass an answer on. The one place that maps failures to statuses.

use super::body::Body;
use super::headers::is_grpc;
use bytes::Bytes;
use h2::Reason;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};

/// Names the failure, on every answer that the proxy makes itself.
pub const ERROR: HeaderName = HeaderName::from_static("maille-error");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Why there is no answer to pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No route matches.
    NoRoute,
    /// The route leads to a service that does not exist.
    NoBackend,
    /// The service has no endpoint.
    NoEndpoint,
    /// The destination is no longer known.
    NoDestination,
    /// No connection to the endpoint.
    Connect,
    /// The endpoint's connection could not be secured.
    Tls,
    /// The endpoint refused the stream before it looked at it.
    Refused,
    /// The exchange broke off before the response.
    Reset,
    /// The route's timeout, or the last try's.
    Timeout,
    /// A limit of the service.
    Overloaded,
    /// The policy of this workload.
    Denied,
    /// A request that no hop can carry.
    BadRequest,
}

/// How an answer that the proxy makes itself must look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// As a gRPC status.
    pub grpc: bool,
    /// Without a body.
    pub head: bool,
}

impl Asked {
    /// By this request.
    pub fn of<B>(request: &Request<B>) -> Self {
        Self {
            grpc: is_grpc(request.headers()),
            head: request.method() == Method::HEAD,
        }
    }

    /// The response as it was asked for.
    pub fn fit(self, mut response: Response<Body>) -> Response<Body> {
        if self.head {
            *response.body_mut() = Body::empty();
        }
        response
    }
}

/// A request without a response.
#[derive(Debug)]
pub enum Unserved {
    /// It never left, so it can go elsewhere.
    Unsent(Box<Request<Body>>, Failure),
    /// It may have been looked at.
    Failed(Failure),
}

impl Unserved {
    /// Why.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Unsent(_, failure) | Self::Failed(failure) => *failure,
        }
    }
}

impl From<Failure> for Unserved {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Failure {
    /// Its name, and what it tells a person.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NoRoute => ("no_route", "no route matches this request"),
            Self::NoBackend => (
                "no_backend",
                "the route leads to a service that does not exist",
            ),
            Self::NoEndpoint => ("no_endpoint", "the service has no endpoint"),
            Self::NoDestination => (
                "no_destination",
                "the destination does not exist (any more)",
            ),
            Self::Connect => ("connect", "cannot connect to the endpoint"),
            Self::Tls => ("tls", "the connection to the endpoint could not be secured"),
            Self::Refused => ("refused", "the endpoint refused the stream"),
            Self::Reset => ("reset", "the exchange broke off before the response"),
            Self::Timeout => ("timeout", "no response in time"),
            Self::Overloaded => ("overloaded", "the service is at its limit"),
            Self::Denied => (
                "denied",
                "the policy of the destination refuses this request",
            ),
            Self::BadRequest => ("bad_request", "the request cannot be carried"),
        }
    }

    /// The HTTP status, and gRPC's (`google.rpc.Code`).
    fn codes(self) -> (StatusCode, u32) {
        match self {
            Self::NoRoute => (StatusCode::NOT_FOUND, 12),
            Self::NoBackend => (StatusCode::INTERNAL_SERVER_ERROR, 13),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, 4),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, 8),
            Self::Denied => (StatusCode::FORBIDDEN, 7),
            Self::BadRequest => (StatusCode::BAD_REQUEST, 3),
            Self::NoEndpoint
            | Self::NoDestination
            | Self::Connect
            | Self::Tls
            | Self::Refused
            | Self::Reset => (StatusCode::SERVICE_UNAVAILABLE, 14),
        }
    }

    /// As metrics and the `maille-error` header say it.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.codes().0
    }

    /// How a peer learns of it by the end of its stream, so that its sidecar sees what happened and may try again. None: it
    /// gets an answer. REFUSED_STREAM says that nobody has looked at the request (RFC 9113 §8.7); the reason of a reset says
    /// nothing to whoever retries.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Reset => Some(Reason::INTERNAL_ERROR),
            Self::Refused => Some(Reason::REFUSED_STREAM),
            _ => None,
        }
    }

    /// Whether the endpoint, or the way to it, is to blame.
    pub fn of_endpoint(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Tls | Self::Refused | Self::Reset | Self::Timeout
        )
    }

    /// The answer. gRPC clients get a status of their own.
    pub fn response(self, asked: Asked) -> Response<Body> {
        let ((name, text), (status, code)) = (self.words(), self.codes());
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(ERROR, HeaderValue::from_static(name));
        if asked.grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(GRPC_STATUS, HeaderValue::from(code));
            headers.insert(GRPC_MESSAGE, HeaderValue::from_static(text));
            return response;
        }
        let text = format!("maille: {text}\n");
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        *response.body_mut() = Body::full(Bytes::from(text));
        *response.status_mut() = status;
        asked.fit(response)
    }
}
