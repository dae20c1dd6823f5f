//! One stream at work: requests in, the session's responses out, a sign of life while nothing changes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};
use xds_api::delta::{Response, Verdict};
use xds_api::services::Service;
use xds_api::type_url::TypeUrl;

use super::frames::frames;
use super::metrics::{Labels, XdsMetrics};
use super::questions::{Questions, Respondent};
use super::request::Asked;
use crate::tls::Link;
use crate::xds::cache::{Cache, Published};
use crate::xds::roster::Entry;
use crate::xds::session::Session;

/// An idle client hears this often that its view is still the newest.
pub(super) const BEAT: Duration = Duration::from_secs(10);
/// A client that takes or answers nothing for this long is gone or stuck; it comes back with what it has.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pieces of responses on their way to the connection. With one response in flight per type this is only a small
/// pipeline; what does not fit waits in the session, where changes coalesce.
pub(super) const QUEUE: usize = 4;

/// What a stream needs to run.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) session: Session,
    /// The service that was called.
    pub(super) service: Service,
    pub(super) cache: Arc<Cache>,
    pub(super) published: watch::Receiver<Arc<Published>>,
    pub(super) questions: Questions,
    pub(super) requests: Streaming<Asked>,
    pub(super) out: mpsc::Sender<Frame<Bytes>>,
    pub(super) entry: Entry,
    pub(super) metrics: Arc<XdsMetrics>,
    /// The connection that it came by.
    pub(super) link: Link,
    /// Cancelled once this controller stops; the link is told to leave then, too.
    pub(super) stopping: CancellationToken,
    /// The end of the client's certificate.
    pub(super) expires: Instant,
    /// When the client last said something.
    pub(super) heard: Instant,
    /// When it is time for a sign of life.
    pub(super) beat_at: Instant,
    pub(super) oddities: Oddities,
}

/// What is odd about a client and was logged. Once a stream is enough: it may say it again with every request.
#[derive(Debug, Default)]
pub(super) struct Oddities {
    unknown_type: bool,
    other_node: bool,
}

/// Why a stream is over.
enum Ended {
    /// The client has gone; there is nobody to tell.
    ByClient,
    /// With a status that the client is told.
    With(Status),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::With(status)
    }
}

impl Stream {
    /// Serves until either side ends it.
    pub(super) async fn run(mut self, first: Asked) {
        let ended = match self.request(first) {
            Ok(()) => self.serve().await,
            Err(ended) => ended,
        };
        let node = self.entry.node();
        match ended {
            Ended::ByClient => debug!(node, "an xDS stream was ended by its client"),
            Ended::With(status) => {
                info!(node, code = ?status.code(), reason = status.message(), "ends an xDS stream");
                self.finish(&status);
            }
        }
    }

    async fn serve(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.step().await {
                return ended;
            }
        }
    }

    /// Says what there is to say, then waits for something to happen.
    async fn step(&mut self) -> Result<(), Ended> {
        // A client's requests come in bursts: all that are there are taken before anything is answered.
        while let Some(request) = self.requests.message().now_or_never() {
            self.take(request)?;
        }
        while let Some(response) = self.next() {
            self.send(response).await?;
        }
        self.entry.update(&self.session);
        tokio::select! {
            request = self.requests.message() => self.take(request),
            changed = self.published.changed() => {
                changed.map_err(|_| stopping())?;
                let published = self.published.borrow_and_update().clone();
                self.session.advance(&self.cache, published);
                Ok(())
            }
            asked = self.questions.changed() => {
                asked.map_err(|_| stopping())?;
                self.answer();
                Ok(())
            }
            () = tokio::time::sleep_until(self.beat_at) => self.beat().await,
            () = self.link.leaving() => Err(self.leaving().into()),
        }
    }

    /// Answers what every stream is asked, where anybody still wants to know.
    fn answer(&mut self) {
        let question = self.questions.borrow_and_update().clone();
        if let Some(question) = question.and_then(|one| one.upgrade()) {
            question.put_to(Respondent {
                cache: &self.cache,
                session: &self.session,
                entry: &self.entry,
                alone: self.service.kind.is_some(),
            });
        }
    }

    fn next(&mut self) -> Option<Response> {
        match self.service.kind {
            None => self.session.next(&self.cache),
            Some(_) => self.session.next_alone(&self.cache),
        }
    }

    fn take(&mut self, request: Result<Option<Asked>, Status>) -> Result<(), Ended> {
        match request {
            Ok(Some(request)) => self.request(request),
            Err(status) if is_own_fault(&status) => Err(status.into()),
            // The client has closed its half, or the connection is gone: either way it wants no more.
            Ok(None) | Err(_) => Err(Ended::ByClient),
        }
    }

    fn request(&mut self, mut request: Asked) -> Result<(), Ended> {
        self.heard = Instant::now();
        request.imply(&self.service)?;
        self.note(&request);
        let kind = TypeUrl::parse(request.type_url());
        let taken = match request {
            Asked::Delta(request) => self.session.request(&self.cache, request),
            Asked::State(request) => self.session.request_state(&self.cache, request),
        };
        let refused =
            |refusal: xds_api::delta::Refusal| Status::invalid_argument(refusal.to_string());
        let verdict = taken.map_err(refused)?;
        if let (Some(kind), Some(Verdict::Rejected(reason))) = (kind, verdict) {
            warn!(
                node = self.entry.node(),
                kind = kind.short(),
                reason,
                "rejects what it was sent"
            );
            self.metrics.nacks.get_or_create(&Labels::of(kind)).inc();
        }
        Ok(())
    }

    /// Logs what is odd about a request and no reason to end the stream.
    fn note(&mut self, request: &Asked) {
        let (node, url) = (self.entry.node(), request.type_url());
        if !url.is_empty() && TypeUrl::parse(url).is_none() && !self.oddities.unknown_type {
            self.oddities.unknown_type = true;
            info!(
                node,
                url, "asks for a type that is not served, and gets no answer"
            );
        }
        let other = request.node().filter(|other| other.id != node);
        if let Some(other) = other.filter(|_| !self.oddities.other_node) {
            self.oddities.other_node = true;
            warn!(
                node,
                other = other.id,
                "names another node later on, which is ignored"
            );
        }
    }

    async fn send(&mut self, response: Response) -> Result<(), Ended> {
        let bytes = response
            .resources
            .iter()
            .map(|one| one.body().len() as u64)
            .sum();
        for frame in frames(&response, self.session.version()) {
            match self.out.send_timeout(Frame::data(frame), PATIENCE).await {
                Ok(()) => {}
                Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(Ended::ByClient),
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => return Err(self.stuck("read")),
            }
        }
        self.metrics
            .responses
            .get_or_create(&Labels::of(response.kind))
            .inc();
        self.metrics.resource_bytes.inc_by(bytes);
        self.entry.sent(bytes);
        self.beat_at = Instant::now() + BEAT;
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        if now >= self.expires {
            let text = "the certificate of this stream has expired: renew it and connect again";
            return Err(Status::unauthenticated(text).into());
        }
        if !self.session.is_idle() && now > self.heard + PATIENCE {
            return Err(self.stuck("answered"));
        }
        self.beat_at = now + BEAT;
        match self.session.beat() {
            Some(response) => self.send(response).await,
            None => Ok(()),
        }
    }

    fn leaving(&self) -> Status {
        match self.stopping.is_cancelled() {
            true => stopping(),
            false => Status::unavailable(
                "this controller has more than its share of clients: connect to another",
            ),
        }
    }

    /// With the stream goes its connection: what a client does not read would stay in its buffers.
    fn stuck(&self, what: &str) -> Ended {
        self.metrics.stuck.inc();
        self.link.leave();
        Status::unavailable(format!(
            "nothing was {what} for {PATIENCE:?}: connect again"
        ))
        .into()
    }

    /// Ends the response with its status. A client that reads nothing learns it from the connection alone.
    fn finish(self, status: &Status) {
        let mut trailers = HeaderMap::new();
        let written = status.add_header(&mut trailers);
        if written.is_ok() && self.out.try_send(Frame::trailers(trailers)).is_err() {
            debug!(
                node = self.entry.node(),
                "the stream's client cannot be told why it ends"
            );
        }
    }
}

/// Whether a request was one that no client may send: too large, not a message, compressed. What else fails is the connection.
fn is_own_fault(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted | Code::Unimplemented
    )
}

fn stopping() -> Status {
    Status::unavailable("this controller is stopping: connect to another")
}
