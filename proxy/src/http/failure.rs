//! What the proxy answers where it cannot pass an answer on. The one place that maps failures to statuses.

use super::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};

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
    /// An upgrade that the other side's protocol does not know.
    Upgrade,
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

/// Name, HTTP status, gRPC status (`google.rpc.Code`), text.
type Row = (&'static str, StatusCode, u32, &'static str);

impl Failure {
    fn row(self) -> Row {
        use StatusCode as Http;
        match self {
            Self::NoRoute => (
                "no_route",
                Http::NOT_FOUND,
                12,
                "no route matches this request",
            ),
            Self::NoBackend => (
                "no_backend",
                Http::INTERNAL_SERVER_ERROR,
                13,
                "the route leads to a service that does not exist",
            ),
            Self::NoEndpoint => (
                "no_endpoint",
                Http::SERVICE_UNAVAILABLE,
                14,
                "the service has no endpoint",
            ),
            Self::NoDestination => (
                "no_destination",
                Http::SERVICE_UNAVAILABLE,
                14,
                "the destination does not exist (any more)",
            ),
            Self::Connect => (
                "connect",
                Http::SERVICE_UNAVAILABLE,
                14,
                "cannot connect to the endpoint",
            ),
            Self::Tls => (
                "tls",
                Http::SERVICE_UNAVAILABLE,
                14,
                "the connection to the endpoint could not be secured",
            ),
            Self::Refused => (
                "refused",
                Http::SERVICE_UNAVAILABLE,
                14,
                "the endpoint refused the stream",
            ),
            Self::Reset => (
                "reset",
                Http::SERVICE_UNAVAILABLE,
                14,
                "the exchange broke off before the response",
            ),
            Self::Timeout => ("timeout", Http::GATEWAY_TIMEOUT, 4, "no response in time"),
            Self::Overloaded => (
                "overloaded",
                Http::SERVICE_UNAVAILABLE,
                8,
                "the service is at its limit",
            ),
            Self::Denied => (
                "denied",
                Http::FORBIDDEN,
                7,
                "the policy of the destination refuses this request",
            ),
            Self::BadRequest => (
                "bad_request",
                Http::BAD_REQUEST,
                3,
                "the request cannot be carried",
            ),
            Self::Upgrade => (
                "upgrade",
                Http::NOT_IMPLEMENTED,
                12,
                "the upgrade cannot be carried to this destination",
            ),
        }
    }

    /// As metrics and the `maille-error` header say it.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// Whether the endpoint, or the way to it, is to blame.
    pub fn of_endpoint(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Tls | Self::Refused | Self::Reset | Self::Timeout
        )
    }

    /// The answer. gRPC clients get a status of their own.
    pub fn response(self, grpc: bool) -> Response<Body> {
        let (name, status, code, text) = self.row();
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(ERROR, HeaderValue::from_static(name));
        if grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(GRPC_STATUS, HeaderValue::from(code));
            headers.insert(GRPC_MESSAGE, HeaderValue::from_static(text));
            return response;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        *response.body_mut() = Body::full(Bytes::from(format!("maille: {text}\n")));
        *response.status_mut() = status;
        response
    }
}
