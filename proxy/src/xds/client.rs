//! The task that keeps a stream to one of the controllers and publishes what it tells.

use super::directory::{Status, Xds};
use super::disk::{Disk, Owner};
use super::state::{Behind, State};
use super::workload::Workload;
use crate::config::HostPort;
use crate::controllers::{Backoff, ConnectError, Controllers, connect};
use crate::identity::{Credentials, Identity};
use crate::snapshot::{Directory, Snapshot};
use crate::supervise::Tasks;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status as Code, Streaming};
use tracing::{info, warn};
use xds_api::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use xds_api::type_url::TypeUrl;

/// Between rounds over all controllers. The first is short: after the death of one the others are there.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Requests that wait to be sent: a stream's opening ones and some acknowledgements.
const OUTGOING: usize = 16;
/// For a request to be taken by the connection; a controller that reads nothing for so long is given up.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// From the opening requests to the first answer.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// A controller says something every 10 s; three times nothing is silence.
const SILENCE_LIMIT: Duration = Duration::from_secs(35);
/// The largest response: a wildcard's first answer holds everything that 2,048 listeners reach.
const RESPONSE_LIMIT: usize = 256 * 1024 * 1024;
/// From a change until it is on disk, so that a burst is written once.
const SAVE_DELAY: Duration = Duration::from_millis(500);
/// The same where only the index has moved.
const SAVE_INDEX_DELAY: Duration = Duration::from_secs(30);

/// The server takes back what nothing uses only while no listener is under way. Whoever has names come and go without a
/// pause, beyond their limit, would hold more and more: past this many nothing more is asked for, until it has.
const SUPERFLUOUS: usize = 1_024;
/// It takes milliseconds. After so long the names matter more.
const TAKE_BACK_LIMIT: Duration = Duration::from_millis(500);

/// What the client needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Whom to ask.
    pub controllers: Controllers,
    /// Who asks.
    pub workload: Workload,
    /// Where the last good configuration is kept; must exist.
    pub directory: PathBuf,
}

/// Starts the client. It waits for the first certificate by itself. What an earlier life of the process has stored is in
/// force when this returns, if a stored certificate is. Snapshots go to `publish`.
pub fn start(
    settings: Settings,
    identity: Identity,
    publish: watch::Sender<Arc<Snapshot>>,
    tasks: &Tasks,
) -> Xds {
    let disk = Disk::new(&settings.directory);
    let restored = identity.current().map(|credentials| {
        let mut state = fresh(&settings, &credentials);
        restore(&mut state, &disk, &credentials);
        state
    });
    if let Some(state) = &restored {
        publish.send_replace(state.snapshot());
    }
    let xds = Xds::new(publish);
    if let Some(state) = &restored {
        let own = |name: &&Arc<str>| !name.starts_with("in/");
        let listeners = state.held().of(TypeUrl::Listener).keys();
        xds.shared.names.restore(listeners.filter(own).cloned());
    }
    let conversation = converse(
        settings,
        identity,
        disk,
        restored,
        xds.clone(),
        tasks.stopping(),
    );
    // Boxed: the conversation is large, and lives as long as the process.
    tasks.vital("xds", Box::pin(conversation));
    xds
}

fn fresh(settings: &Settings, credentials: &Credentials) -> State {
    let inbound = format!(
        "in/{}/{}",
        settings.workload.namespace, settings.workload.name
    );
    let roots = format!("roots/{}", credentials.trust_domain);
    State::new(
        Arc::clone(&credentials.identity),
        inbound.into(),
        roots.into(),
    )
}

fn restore(state: &mut State, disk: &Disk, credentials: &Credentials) {
    match disk.load(&credentials.identity, now()) {
        Ok(Some(saved)) => {
            let resources = saved.resources.len();
            info!(version = %saved.version, resources, "the last good configuration is in force");
            state.restore(saved.version, saved.resources);
        }
        Ok(None) => {}
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            warn!(
                error,
                "the stored configuration is not used; nothing is accepted until a controller has told"
            );
        }
    }
}

async fn converse(
    settings: Settings,
    mut identity: Identity,
    disk: Disk,
    restored: Option<State>,
    xds: Xds,
    stopping: CancellationToken,
) {
    let credentials = tokio::select! {
        () = stopping.cancelled() => return,
        credentials = identity.first() => credentials,
    };
    let mut conversation = Conversation {
        state: restored.unwrap_or_else(|| fresh(&settings, &credentials)),
        credentials: identity.credentials(),
        settings,
        xds,
        disk,
        save_at: None,
        held_back: None,
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = conversation.talk() => {}
    }
    conversation.save().await;
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the controller ended the stream: {} ({:?})", .0.message(), .0.code())]
    Refused(Code),
    #[error("the controller closed the stream")]
    Closed,
    #[error("the controller said nothing for {0:?}")]
    Silence(Duration),
    #[error(transparent)]
    Behind(#[from] Behind),
    #[error("there is a new certificate; the stream begins anew with it")]
    Renewed,
}

struct Conversation {
    state: State,
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
    settings: Settings,
    xds: Xds,
    disk: Disk,
    save_at: Option<Instant>,
    /// Until when nothing is asked for.
    held_back: Option<Instant>,
}

impl Conversation {
    /// One stream after the other, for as long as the process lives.
    async fn talk(&mut self) {
        self.pin_upstreams();
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut last = None;
        loop {
            for controller in self.settings.controllers.shuffled_after(last.as_ref()) {
                let heard = self.stream(&controller).await;
                self.save().await;
                if heard {
                    last = Some(controller);
                    backoff.reset();
                    break;
                }
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// One stream from its beginning to its end. Answers whether anything was heard.
    async fn stream(&mut self, controller: &HostPort) -> bool {
        let Some(credentials) = self.credentials.borrow_and_update().clone() else {
            return false;
        };
        let before = self.xds.shared.status.borrow().accepted;
        let end = self.run(controller, &credentials).await;
        self.state.disconnect();
        self.xds.shared.names.set_connected(false);
        let error = describe(&end);
        match end {
            End::Renewed => info!(%controller, "{error}"),
            _ => warn!(%controller, error, "no stream to the control plane"),
        }
        self.xds.shared.status.send_modify(|status| {
            status.controller = None;
            status.last_error = Some(error);
        });
        self.xds.shared.status.borrow().accepted > before
    }

    async fn run(&mut self, controller: &HostPort, credentials: &Arc<Credentials>) -> End {
        let channel = match connect(controller, credentials.controller()).await {
            Ok(channel) => channel,
            Err(error) => return error.into(),
        };
        let (requests, outgoing) = mpsc::channel(OUTGOING);
        // Names that were asked for meanwhile go with the opening requests.
        let changes = self.xds.shared.names.changes();
        self.state.forget(&changes.dropped);
        self.state.want(&changes.wanted);
        for request in self
            .state
            .connect(self.settings.workload.claim(credentials))
        {
            if requests.try_send(request).is_err() {
                return End::Closed;
            }
        }
        let responses = match open(channel, outgoing).await {
            Ok(responses) => responses,
            Err(end) => return end,
        };
        info!(%controller, "the control plane is there");
        self.xds.shared.names.set_connected(true);
        self.xds.shared.status.send_modify(|status| {
            status.controller = Some(controller.to_string());
        });
        match self.listen(credentials, &requests, responses).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn listen(
        &mut self,
        credentials: &Arc<Credentials>,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
        mut responses: Streaming<DeltaDiscoveryResponse>,
    ) -> Result<std::convert::Infallible, End> {
        let xds = self.xds.clone();
        loop {
            let save_at = self.save_at;
            tokio::select! {
                response = timeout(SILENCE_LIMIT, responses.message()) => {
                    let response = heard(response)?;
                    self.welcome(&response);
                    self.ask(requests).await?;
                    let request = self.respond(response)?;
                    send(requests, request).await?;
                    if self.held_back.is_some() {
                        self.ask(requests).await?;
                    }
                }
                () = xds.shared.asked.notified() => self.ask(requests).await?,
                () = until(self.held_back) => self.ask(requests).await?,
                () = until(save_at) => self.save().await,
                _ = self.credentials.changed() => {
                    let current = self.credentials.borrow_and_update().clone();
                    self.save_later(SAVE_DELAY);
                    // New roots alone need no new stream.
                    if current.is_some_and(|current| current.chain != credentials.chain) {
                        return Err(End::Renewed);
                    }
                }
            }
        }
    }

    /// The ports of a host come with it, without having been asked for: whoever looks a name up is about to call it. They
    /// are held from now on like any other name.
    fn welcome(&self, response: &DeltaDiscoveryResponse) {
        if response.type_url != TypeUrl::Listener.as_str() {
            return;
        }
        let names = response.resources.iter().map(|one| one.name.as_str());
        for name in names.filter(|name| name.starts_with("out/")) {
            // Where there is no room it is left out, and asked for when it is called.
            self.xds.shared.names.ask(name);
        }
    }

    /// Takes a response in and publishes; the ACK or NACK to send.
    fn respond(&mut self, response: DeltaDiscoveryResponse) -> Result<DeltaDiscoveryRequest, End> {
        let before = self.state.version();
        let outcome = self.state.receive(response)?;
        let shared = &self.xds.shared;
        shared.names.told(&outcome.found, false);
        shared.names.told(&outcome.missing, true);
        shared.snapshots.send_replace(self.state.snapshot());
        shared
            .answers
            .send_modify(|count| *count = count.wrapping_add(1));
        if let Some(refusal) = &outcome.refusal {
            warn!(refusal, "a response of the control plane is refused");
        }
        shared
            .status
            .send_modify(|status| count(status, outcome.refusal));
        if outcome.changed {
            self.save_later(SAVE_DELAY);
            self.pin_upstreams();
        } else if self.state.version() != before {
            self.save_later(SAVE_INDEX_DELAY);
        }
        Ok(outcome.request)
    }

    /// Asks for what has become wanted, and lets go of what is not any more.
    async fn ask(&mut self, requests: &mpsc::Sender<DeltaDiscoveryRequest>) -> Result<(), End> {
        let now = Instant::now();
        if self.state.superfluous() > SUPERFLUOUS
            && now < *self.held_back.get_or_insert(now + TAKE_BACK_LIMIT)
        {
            return Ok(());
        }
        self.held_back = None;
        let changes = self.xds.shared.names.changes();
        let dropped = self.state.forget(&changes.dropped);
        let wanted = self.state.want(&changes.wanted);
        for request in dropped.into_iter().chain(wanted) {
            send(requests, request).await?;
        }
        Ok(())
    }

    /// The explicit upstreams are known before anybody calls them.
    fn pin_upstreams(&self) {
        let snapshot = self.xds.current();
        let inbound = snapshot.inbound.iter();
        let targets = inbound.flat_map(|inbound| &inbound.upstreams);
        let targets = targets.map(|upstream| Arc::clone(&upstream.target));
        self.xds.shared.names.pin(targets);
        self.xds.shared.asked.notify_one();
    }

    fn save_later(&mut self, delay: Duration) {
        let at = Instant::now() + delay;
        self.save_at = Some(self.save_at.map_or(at, |before| before.min(at)));
    }

    /// Stores what is held, if it has changed.
    async fn save(&mut self) {
        let credentials = self.credentials.borrow().clone();
        let (Some(_), Some(credentials), Some(version)) =
            (self.save_at, credentials, self.state.version())
        else {
            return;
        };
        self.save_at = None;
        let owner = Owner {
            identity: Arc::clone(&credentials.identity),
            not_after: credentials.not_after,
        };
        let body = Disk::encode(&owner, version, self.state.held());
        let disk = self.disk.clone();
        let stored = tokio::task::spawn_blocking(move || disk.store(&body)).await;
        if let Ok(Err(error)) = stored {
            let error = &error as &dyn std::error::Error;
            warn!(
                error,
                "the configuration is not stored; a restart will need a controller"
            );
        }
    }
}

fn count(status: &mut Status, refusal: Option<String>) {
    match refusal {
        None => status.accepted += 1,
        Some(refusal) => {
            status.refused += 1;
            status.last_refusal = Some(refusal);
        }
    }
}

async fn open(
    channel: Channel,
    outgoing: mpsc::Receiver<DeltaDiscoveryRequest>,
) -> Result<Streaming<DeltaDiscoveryResponse>, End> {
    let mut client = AggregatedDiscoveryServiceClient::new(channel)
        .max_decoding_message_size(RESPONSE_LIMIT)
        .max_encoding_message_size(RESPONSE_LIMIT);
    let opening = client.delta_aggregated_resources(ReceiverStream::new(outgoing));
    match timeout(OPEN_LIMIT, opening).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(End::Refused(status)),
        Err(_) => Err(End::Silence(OPEN_LIMIT)),
    }
}

type Heard = Result<Result<Option<DeltaDiscoveryResponse>, Code>, tokio::time::error::Elapsed>;

fn heard(response: Heard) -> Result<DeltaDiscoveryResponse, End> {
    match response {
        Ok(Ok(Some(response))) => Ok(response),
        Ok(Ok(None)) => Err(End::Closed),
        Ok(Err(status)) => Err(End::Refused(status)),
        Err(_) => Err(End::Silence(SILENCE_LIMIT)),
    }
}

async fn send(
    requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    request: DeltaDiscoveryRequest,
) -> Result<(), End> {
    let sent = timeout(SEND_LIMIT, requests.send(request)).await;
    match sent {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Closed),
        Err(_) => Err(End::Silence(SEND_LIMIT)),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// An error with its causes, in one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some causes are told by the error that they caused.
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
