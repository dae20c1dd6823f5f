//! A stream's beginning: its first request, who is asking, and a view that is new enough.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue, header};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Status, Streaming};
use tracing::warn;
use xds_api::conversation::Form;
use xds_api::mesh_version::MeshVersion;
use xds_api::node::Claim;
use xds_api::services::Service;

use super::Shared;
use super::admission::admit;
use super::request::{Asked, RequestDecoder};
use super::service::Pieces;
use super::stream::{BEAT, Oddities, QUEUE, Stream};
use crate::tls::{Caller, Link};
use crate::xds::cache::Published;
use crate::xds::roster::Client;
use crate::xds::scope::Dialect;
use crate::xds::session::Session;

/// How long the first request may take: a client sends it with the call.
pub(in crate::xds) const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long this controller may take to apply what the read index asks for.
const CATCH_UP: Duration = Duration::from_secs(5);
/// The largest request: a client that returns with 100,000 names and their versions.
const MAX_REQUEST: usize = 16 << 20;
/// Says, in the response's head, that this controller could not confirm that its view is the newest.
const STALE: HeaderName = HeaderName::from_static("maille-stale");

/// Opens a stream. The response's head goes out once the first request was read and admitted.
pub(super) async fn open(
    shared: Arc<Shared>,
    service: Service,
    form: Form,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Status> {
    let (head, body) = request.into_parts();
    let link = head.extensions.get::<Link>().cloned();
    let link = link.ok_or_else(|| Status::internal("the call came by no connection"))?;
    // A client may not have read yet that its connection is to go.
    if link.is_leaving() {
        return Err(Status::unavailable(
            "this connection is ending: connect to another controller",
        ));
    }
    let caller = head.extensions.get::<Caller>();
    let spiffe_id = caller.and_then(Caller::spiffe_id).map(str::to_owned);
    let not_after = caller
        .and_then(|caller| caller.leaf.as_ref())
        .map_or(0, |leaf| leaf.term.not_after);
    let decoder = RequestDecoder(form);
    let mut requests = Streaming::new_request(decoder, body, None, Some(MAX_REQUEST));
    let first = first(&mut requests).await?;

    let present = shared.cache.published();
    let (claim, own) = admit(&present.mesh, spiffe_id.as_deref(), first.node())?;
    let stale = confirm(&shared, &claim, &first).await?;
    let mut published = shared.published.subscribe();
    let view = published.borrow_and_update().clone();
    let ahead = claim.view.filter(|held| *held > view.version);
    if let Some(held) = ahead {
        let text = format!(
            "the client has seen {held}, this controller is at {}: connect to another",
            view.version
        );
        return Err(Status::unavailable(text));
    }

    // No gRPC library means everything by a request without names.
    let names_only = own.dialect == Dialect::Grpc;
    let session = Session::new(own.clone(), &shared.cache, view).speaking(form, names_only);
    let (out, pieces) = mpsc::channel(QUEUE);
    let client = Client {
        node: claim.id(),
        agent: claim.agent,
        version: claim.agent_version,
        spiffe_id: own.identity,
        certificate_not_after: not_after,
    };
    let entry = shared.roster.enter(client, link.clone());
    let metrics = shared.metrics.clone();
    metrics.streams.inc();
    let stream = Stream {
        session,
        service,
        cache: shared.cache.clone(),
        published,
        questions: shared.asker.subscribe(),
        requests,
        out,
        entry,
        metrics: metrics.clone(),
        link,
        stopping: shared.stage.stopping(),
        expires: Instant::now() + until(not_after),
        heard: Instant::now(),
        oddities: Oddities::default(),
        beat_at: Instant::now() + BEAT,
    };
    shared.stage.task("xds stream", async move {
        stream.run(first).await;
        metrics.streams.dec();
    });
    Ok(response(pieces, stale))
}

/// The request with which the stream begins.
async fn first(requests: &mut Streaming<Asked>) -> Result<Asked, Status> {
    let first = tokio::time::timeout(FIRST_REQUEST, requests.message()).await;
    let silence =
        |_| Status::deadline_exceeded(format!("no request came within {FIRST_REQUEST:?}"));
    let first = first.map_err(silence)??;
    first.ok_or_else(|| Status::invalid_argument("the stream has no request"))
}

/// Waits until this controller has applied all that any client can have seen. `true`: it could not be confirmed, and
/// the client has nothing to lose by an old view.
async fn confirm(shared: &Shared, claim: &Claim, first: &Asked) -> Result<bool, Status> {
    let newest = match shared.gate.read().await {
        Ok(state) => state,
        Err(failure) => {
            if claim.view.is_some() || first.brings_state() {
                let text = format!("no quorum: {failure}; keep what you have and connect again");
                return Err(Status::unavailable(text));
            }
            warn!(node = claim.id(), %failure, "serves an unconfirmed view to a client that has none");
            return Ok(true);
        }
    };
    let mesh = newest.mesh();
    let wanted = MeshVersion {
        incarnation: mesh.incarnation(),
        index: mesh.index(),
    };
    let mut published = shared.published.subscribe();
    let applied = published.wait_for(|one: &Arc<Published>| one.version >= wanted);
    let behind = || {
        Status::unavailable(format!(
            "this controller has not yet applied {wanted}: connect to another"
        ))
    };
    tokio::time::timeout(CATCH_UP, applied)
        .await
        .map_err(|_| behind())?
        .map_err(|_| behind())?;
    Ok(false)
}

/// From now to a Unix time in seconds.
pub(in crate::xds) fn until(unix: i64) -> Duration {
    let end = UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or(0));
    // A certificate that has expired meanwhile: no time is left.
    end.duration_since(SystemTime::now()).unwrap_or_default()
}

fn response(
    pieces: mpsc::Receiver<http_body::Frame<bytes::Bytes>>,
    stale: bool,
) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(Pieces(pieces)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    if stale {
        headers.insert(STALE, HeaderValue::from_static("true"));
    }
    response
}
