//! One request out: cleaned, routed, balanced, sent, tried again where that may help, its answer cleaned.

use super::binding::{Bound, BoundBackend, Cluster};
use super::connection::Connection;
use super::target::Target;
use crate::balance::{EndpointState, Lease, Outcome, Permit, hash};
use crate::http::{
    Asked, Body, FORWARDED_CLIENT, Failure, Replay, Unserved, Upgrade, Watch, backoff, change,
    clean_response, forget_hops, is_gateway_error, redirect, rewrite, select, worth_retrying,
};
use crate::metrics::{Direction, Flight, RequestMetrics};
use crate::snapshot::{
    Balancing, DirectResponse, Forward, HashKey, RetryPolicy, Route, RouteAction,
};
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{HeaderValue, Request, Response, Uri};
use http_body::Body as _;
use std::sync::Arc;
use tokio::time::Instant;

/// Endpoints that one try is taken to, as long as the request never left.
const ENDPOINTS: usize = 3;

/// A response, and the try that it answers.
type Served = (Response<Body>, Try);
/// The same, and what is given back once it has ended.
type Answer = (Response<Body>, Try, Permit);

/// A request at an endpoint.
#[derive(Debug)]
struct Try {
    lease: Lease<Target>,
    flight: Flight,
}

/// Answers one request.
pub(super) async fn answer(connection: &Connection, mut request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let asked = Asked::of(&request);
    let Some(binding) = connection.binding() else {
        return Failure::NoDestination.response(asked);
    };
    let bound = &*binding.bound;
    forget_hops(request.headers_mut());
    // Only a proxy that has verified a peer may say who it is.
    request.headers_mut().remove(FORWARDED_CLIENT);
    let (metrics, failure) = match lead(connection, bound, request, asked, started).await {
        Ok(response) => return response,
        Err(failed) => failed,
    };
    let errors = &connection.outbound.shared.metrics;
    errors.error(Direction::Outbound, &bound.service, failure.name());
    let response = failure.response(asked);
    let watch = Watch::new(metrics.clone(), &response, asked.grpc, started);
    response.map(|body| body.watched(watch))
}

/// Follows the route that the request takes. A failure comes with the counters that it belongs to.
async fn lead<'a>(
    connection: &Connection,
    bound: &'a Bound,
    request: Request<Body>,
    asked: Asked,
    started: Instant,
) -> Result<Response<Body>, (&'a Arc<RequestMetrics>, Failure)> {
    let unrouted = &bound.unrouted;
    let routes = bound.routes.as_ref().ok_or((unrouted, Failure::NoRoute))?;
    let (parts, body) = request.into_parts();
    let place = select(&routes.routes.routes, &parts).ok_or((unrouted, Failure::NoRoute))?;
    let route = &routes.routes.routes[place];
    let forward = match &route.action {
        RouteAction::Forward(forward) => forward,
        RouteAction::Redirect(to) => {
            let response = redirect(&parts, &route.matches.path, to);
            return Ok(asked.fit(local(unrouted, route, response, started)));
        }
        RouteAction::Respond(direct) => {
            return Ok(asked.fit(local(unrouted, route, respond(direct), started)));
        }
    };
    let (number, backend) = routes
        .backend(place)
        .ok_or((unrouted, Failure::NoBackend))?;
    let call = Call {
        connection,
        bound,
        route,
        forward,
        number,
        backend,
        deadline: forward.timeout.map(|timeout| started + timeout),
    };
    let answered = call.run(parts, body).await;
    let (mut response, Try { lease, flight }, permit) =
        answered.map_err(|failure| (&backend.requests, failure))?;
    clean_response(&mut response);
    let headers = response.headers_mut();
    change(headers, &forward.backends.backends[number].response_headers);
    change(headers, &route.response_headers);
    let watch = Watch::new(backend.requests.clone(), &response, asked.grpc, started)
        .until(call.deadline)
        .counting(flight)
        .holding((lease, permit));
    Ok(response.map(|body| body.watched(watch)))
}

fn respond(direct: &DirectResponse) -> Response<Body> {
    let length = HeaderValue::from(direct.body.len());
    let mut response = Response::new(Body::full(direct.body.clone()));
    if !direct.body.is_empty() {
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    *response.status_mut() = direct.status;
    response
}

/// An answer that the route itself is.
fn local(
    metrics: &Arc<RequestMetrics>,
    route: &Route,
    mut response: Response<Body>,
    started: Instant,
) -> Response<Body> {
    change(response.headers_mut(), &route.response_headers);
    let watch = Watch::new(metrics.clone(), &response, false, started);
    response.map(|body| body.watched(watch))
}

/// A request on its way to a backend.
struct Call<'a> {
    connection: &'a Connection,
    bound: &'a Bound,
    route: &'a Route,
    forward: &'a Forward,
    number: usize,
    backend: &'a BoundBackend,
    deadline: Option<Instant>,
}

impl Call<'_> {
    async fn run(&self, mut parts: Parts, body: Body) -> Result<Answer, Failure> {
        let cluster = self.backend.cluster.as_deref().ok_or(Failure::NoBackend)?;
        let permit = cluster.request().map_err(|_| {
            self.backend.load.dropped();
            Failure::Overloaded
        })?;
        let key = self.key(cluster, &parts);
        self.alter(&mut parts)?;
        let upgrade = parts.extensions.get::<Upgrade>().is_some();
        let trying = async {
            match &self.forward.retry {
                Some(policy) if !upgrade => self.tries(cluster, policy, parts, body, key).await,
                _ => {
                    let request = Request::from_parts(parts, body);
                    let (result, served) =
                        reach(cluster, request, key, &mut Vec::new(), None).await?;
                    result.map(|response| (response, served))
                }
            }
        };
        let (response, served) = match self.deadline {
            None => trying.await?,
            Some(deadline) => tokio::time::timeout_at(deadline, trying)
                .await
                .map_err(|_| Failure::Timeout)??,
        };
        Ok((response, served, permit))
    }

    /// What the route changes of the request.
    fn alter(&self, parts: &mut Parts) -> Result<(), Failure> {
        if let Some(how) = &self.forward.rewrite {
            parts.uri =
                rewrite(&parts.uri, &self.route.matches.path, how).ok_or(Failure::BadRequest)?;
        }
        if let Some(host) = &self.forward.host {
            if parts.uri.authority().is_some() {
                parts.uri = with_authority(&parts.uri, host).ok_or(Failure::BadRequest)?;
            }
            if parts.headers.contains_key(HOST) || parts.uri.authority().is_none() {
                parts.headers.insert(HOST, host.clone());
            }
        }
        change(&mut parts.headers, &self.route.request_headers);
        change(
            &mut parts.headers,
            &self.forward.backends.backends[self.number].request_headers,
        );
        Ok(())
    }

    /// What a hashing balancer hashes.
    fn key(&self, cluster: &Cluster, parts: &Parts) -> u64 {
        match &cluster.cluster().balancing {
            Balancing::RingHash(HashKey::Header(name))
            | Balancing::Maglev(HashKey::Header(name)) => parts
                .headers
                .get(name)
                .map_or(self.connection.client, |value| hash(value.as_bytes())),
            _ => self.connection.client,
        }
    }

    async fn tries(
        &self,
        cluster: &Cluster,
        policy: &RetryPolicy,
        parts: Parts,
        body: Body,
        key: u64,
    ) -> Result<Served, Failure> {
        let replay = (!body.is_end_stream()).then(|| Replay::new(body));
        let mut tried: Vec<Arc<EndpointState<Target>>> = Vec::new();
        let mut number = 0;
        let mut permit = None;
        loop {
            let body = replay.as_ref().map_or_else(Body::empty, Replay::body);
            let request = Request::from_parts(parts.clone(), body);
            let (result, served) = reach(cluster, request, key, &mut tried, Some(policy)).await?;
            if number > 0
                && result
                    .as_ref()
                    .is_ok_and(|response| !response.status().is_server_error())
            {
                self.count("succeeded");
            }
            // Also without the budget's last permit: an earlier retry of this request has ended.
            drop(permit.take());
            if number >= policy.limit || !worth_retrying(policy, &result) {
                return Ok((result?, served));
            }
            if replay.as_ref().is_some_and(|replay| !replay.repeatable()) {
                self.count("body_too_large");
                return Ok((result?, served));
            }
            permit = cluster.retry();
            if permit.is_none() {
                self.count("refused_by_budget");
                return Ok((result?, served));
            }
            self.count("sent");
            number += 1;
            tried.push(served.lease.state.clone());
            drop((result, served));
            tokio::time::sleep(backoff(policy, number, rand::random())).await;
        }
    }

    fn count(&self, outcome: &'static str) {
        self.connection
            .outbound
            .shared
            .metrics
            .retries(&self.bound.service, outcome)
            .inc();
    }
}

/// One try. A request that never left goes to another endpoint, whether it may be tried again or not: nobody has seen it.
/// The outer error: there is no endpoint.
async fn reach(
    cluster: &Cluster,
    mut request: Request<Body>,
    key: u64,
    tried: &mut Vec<Arc<EndpointState<Target>>>,
    policy: Option<&RetryPolicy>,
) -> Result<(Result<Response<Body>, Failure>, Try), Failure> {
    let mut unsent = 0;
    loop {
        let (result, served) = attempt(cluster, request, key, tried, policy).await?;
        match result {
            Err(Unserved::Unsent(again, failure)) if failure.of_endpoint() => {
                unsent += 1;
                tried.push(served.lease.state.clone());
                if unsent >= ENDPOINTS || !cluster.has_other(tried) {
                    return Ok((Err(failure), served));
                }
                request = *again;
            }
            result => return Ok((result.map_err(|unserved| unserved.failure()), served)),
        }
    }
}

/// A request at one endpoint. The outer error: there is none to try.
async fn attempt(
    cluster: &Cluster,
    request: Request<Body>,
    key: u64,
    tried: &[Arc<EndpointState<Target>>],
    policy: Option<&RetryPolicy>,
) -> Result<(Result<Response<Body>, Unserved>, Try), Failure> {
    let lease = cluster
        .pick(Instant::now(), key, tried)
        .ok_or(Failure::NoEndpoint)?;
    let mut flight = Flight::begin(&lease.state.kept.load, Instant::now());
    let queue = || {
        let permit = cluster.pending().map_err(|_| Failure::Overloaded)?;
        Ok(Connecting {
            lease: &lease,
            _permit: permit,
        })
    };
    let sending = lease
        .state
        .kept
        .exchange(request, cluster.cluster().connect_timeout, queue);
    let result = match policy.and_then(|policy| policy.per_try_timeout) {
        None => sending.await,
        Some(limit) => match tokio::time::timeout(limit, sending).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout.into()),
        },
    };
    if let Some(outcome) = outcome(&result) {
        let now = Instant::now();
        match &result {
            Ok(_) => lease.answered(now),
            Err(_) => lease.failed(now),
        }
        cluster.report(&lease.state, outcome, now);
    }
    if let Ok(response) = &result {
        flight.answered(Instant::now(), !response.status().is_server_error());
    }
    Ok((result, Try { lease, flight }))
}

/// A request that waits for a connection.
struct Connecting<'a> {
    lease: &'a Lease<Target>,
    _permit: Permit,
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.lease.connected(Instant::now());
    }
}

/// What a try says of its endpoint. None: nothing, as the proxy's own limits ended it.
fn outcome(result: &Result<Response<Body>, Unserved>) -> Option<Outcome> {
    match result {
        Ok(response) if is_gateway_error(response.status()) => Some(Outcome::GatewayFailure),
        Ok(response) if response.status().is_server_error() => Some(Outcome::ServerError),
        Ok(_) => Some(Outcome::Success),
        Err(unserved) => unserved
            .failure()
            .of_endpoint()
            .then_some(Outcome::GatewayFailure),
    }
}

fn with_authority(uri: &Uri, host: &HeaderValue) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(http::uri::Authority::try_from(host.as_bytes()).ok()?);
    Uri::from_parts(parts).ok()
}
