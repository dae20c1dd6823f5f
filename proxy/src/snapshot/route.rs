//! How HTTP is led: matches compiled once, in the order in which they are tried.

use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;
use std::sync::Arc;
use std::time::Duration;

/// The routes of one port of a service.
#[derive(Debug, Clone)]
pub struct Routes {
    /// `<namespace>/<service>:<port>`.
    pub name: Arc<str>,
    /// The first that matches is taken; none: 404.
    pub routes: Vec<Route>,
}

/// What matches, and what is done then.
#[derive(Debug, Clone)]
pub struct Route {
    /// For metrics and the log; may be empty.
    pub name: Arc<str>,
    /// All of it must hold.
    pub matches: RouteMatch,
    /// What is done with the request.
    pub action: RouteAction,
    /// On the request, before the backend's own.
    pub request_headers: HeaderChanges,
    /// On the response, after the backend's own.
    pub response_headers: HeaderChanges,
}

/// All parts must hold.
#[derive(Debug, Clone)]
pub struct RouteMatch {
    /// Of the path, without the query.
    pub path: PathMatch,
    /// The method. None: any.
    pub method: Option<TextTest>,
    /// Each must hold.
    pub headers: Vec<HeaderMatch>,
    /// Each must hold.
    pub query: Vec<QueryMatch>,
}

/// A test of the path.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// The whole path.
    Exact(Box<str>),
    /// The path starts with it, by bytes.
    Prefix(Box<str>),
    /// The path is it, or goes on with `/` after it. Stands without a `/` at its end.
    Segments(Box<str>),
    /// The whole path matches.
    Regex(Regex),
}

/// A test of a text.
#[derive(Debug, Clone)]
pub enum TextTest {
    /// The whole text.
    Exact(Box<str>),
    /// The whole text matches; whoever builds it anchors the pattern at both ends.
    Regex(Regex),
}

/// A test of one header.
#[derive(Debug, Clone)]
pub struct HeaderMatch {
    /// Whose value is looked at; several values are joined with a comma.
    pub name: HeaderName,
    /// What must hold.
    pub test: HeaderTest,
}

/// What a header must be.
#[derive(Debug, Clone)]
pub enum HeaderTest {
    /// It is there, or it is not.
    Present(bool),
    /// Its value passes.
    Value(TextTest),
}

/// A test of one query parameter; the first of its name counts.
#[derive(Debug, Clone)]
pub struct QueryMatch {
    /// Compared as it stands in the URL.
    pub name: Box<str>,
    /// What its value must be.
    pub test: TextTest,
}

/// What is done with a request.
#[derive(Debug, Clone)]
pub enum RouteAction {
    /// It is sent to a backend.
    Forward(Forward),
    /// The client is told to go elsewhere.
    Redirect(Redirect),
    /// The proxy answers.
    Respond(DirectResponse),
}

/// How a request is sent on.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Who may get it.
    pub backends: Arc<Backends>,
    /// For the whole exchange. None: no limit.
    pub timeout: Option<Duration>,
    /// What becomes of the path.
    pub rewrite: Option<PathRewrite>,
    /// What becomes of the host.
    pub host: Option<HeaderValue>,
    /// When it is tried again.
    pub retry: Option<RetryPolicy>,
}

/// A weighted choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// At least one.
    pub backends: Vec<Backend>,
    /// The sum of the weights; at least 1.
    pub total: u64,
}

impl Backends {
    /// One cluster that gets everything.
    pub fn single(cluster: impl Into<Arc<str>>) -> Self {
        Self::new(vec![Backend {
            cluster: cluster.into(),
            weight: 1,
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
        }])
    }

    /// Counts the weights.
    pub fn new(backends: Vec<Backend>) -> Self {
        let total = backends
            .iter()
            .map(|backend| u64::from(backend.weight))
            .sum();
        Self { backends, total }
    }
}

/// One of the choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its cluster. One that the snapshot does not have answers 500.
    pub cluster: Arc<str>,
    /// Its part of the total.
    pub weight: u32,
    /// On the request.
    pub request_headers: HeaderChanges,
    /// On the response.
    pub response_headers: HeaderChanges,
}

/// What becomes of the path; the query stays.
#[derive(Debug, Clone)]
pub enum PathRewrite {
    /// The matched prefix is replaced.
    Prefix(Box<str>),
    /// Every match is replaced; the substitution is in the regex crate's notation.
    Regex(Regex, Box<str>),
}

/// When and how a request is tried again.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// What is worth another try.
    pub on: RetryOn,
    /// Statuses for `retriable_status_codes`.
    pub statuses: Vec<StatusCode>,
    /// Tries after the first.
    pub limit: u32,
    /// For each try. None: only the whole has a limit.
    pub per_try_timeout: Option<Duration>,
    /// The first pause is drawn from 0 to this, each further one from twice the range.
    pub backoff_base: Duration,
    /// The range grows no further.
    pub backoff_max: Duration,
}

/// `retry_on`'s tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // each is the token of its name
pub struct RetryOn {
    pub server_error: bool,
    pub gateway_error: bool,
    pub connect_failure: bool,
    pub reset: bool,
    pub refused_stream: bool,
    pub retriable_status_codes: bool,
    pub cancelled: bool,
    pub deadline_exceeded: bool,
    pub resource_exhausted: bool,
    pub unavailable: bool,
    pub internal: bool,
}

/// Where the client is sent; parts that are None stay as they are.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// `http` or `https`.
    pub scheme: Option<Box<str>>,
    /// The host.
    pub host: Option<Box<str>>,
    /// The port.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<RedirectPath>,
}

/// The path of a redirect.
#[derive(Debug, Clone)]
pub enum RedirectPath {
    /// All of it, the query too where it holds one.
    Whole(Box<str>),
    /// The matched prefix is replaced.
    Prefix(Box<str>),
}

/// An answer of the proxy itself.
#[derive(Debug, Clone)]
pub struct DirectResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: bytes::Bytes,
}

/// Changes of headers: removals first, then what is set or added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderChanges {
    /// Set or added, in order.
    pub set: Vec<HeaderChange>,
    /// Removed.
    pub remove: Vec<HeaderName>,
}

impl HeaderChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

/// One header set or added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderChange {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
    /// True: beside what is there. False: in its place.
    pub append: bool,
}

impl RouteMatch {
    /// Every request whose path starts with `prefix`.
    pub fn prefix(prefix: &str) -> Self {
        Self {
            path: PathMatch::Prefix(prefix.into()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }
}
