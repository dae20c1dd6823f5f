//! The connection to a controller that relayed calls share: opened when it is needed, elsewhere when it has ended.

use super::executor::Supervised;
use super::relay::{STREAM_WINDOW, WINDOW};
use crate::config::HostPort;
use crate::controllers::{
    Backoff, Controllers, DialError, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_LIMIT, dial,
};
use crate::identity::Credentials;
use crate::supervise::Tasks;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Between rounds over all controllers; who calls meanwhile is told at once. Envoy itself tries again within a second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// There is no connection to any controller.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    /// This one could not be reached; none of the others either.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// What answers there does not speak HTTP/2.
    #[error("the controller at {controller} does not speak HTTP/2")]
    Handshake {
        /// Which one.
        controller: HostPort,
        /// What it said.
        source: hyper::Error,
    },
    /// A round has just failed.
    #[error("it was tried a moment ago; last: {0}")]
    Paused(String),
}

/// One connection to one controller.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) controller: Arc<HostPort>,
    pub(super) sender: http2::SendRequest<Incoming>,
    /// Cancelled when it is over: every call on it ends.
    pub(super) ended: CancellationToken,
    credentials: Arc<Credentials>,
}

/// Where calls go.
#[derive(Debug)]
pub(super) struct Upstream {
    controllers: Controllers,
    tasks: Tasks,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connection: Option<Connection>,
    /// The controller of the connection before.
    last: Option<HostPort>,
    backoff: Backoff,
    /// Until when nothing is tried, and why.
    paused: Option<(Instant, String)>,
}

impl Upstream {
    pub(super) fn new(controllers: Controllers, tasks: Tasks) -> Self {
        let state = State {
            connection: None,
            last: None,
            backoff: Backoff::new(PAUSE.0, PAUSE.1),
            paused: None,
        };
        Self {
            controllers,
            tasks,
            state: Mutex::new(state),
        }
    }

    /// The connection in use if it is still good and made with this certificate, else one to the first controller that
    /// answers. One that was made with another certificate ends.
    pub(super) async fn connection(
        &self,
        credentials: &Arc<Credentials>,
    ) -> Result<Connection, Unreachable> {
        let mut state = self.state.lock().await;
        if let Some(current) = &state.connection {
            let renewed = current.credentials.chain != credentials.chain;
            if !renewed && !current.ended.is_cancelled() && !current.sender.is_closed() {
                return Ok(current.clone());
            }
            if renewed {
                current.ended.cancel();
            }
            state.connection = None;
        }
        if let Some((until, why)) = &state.paused
            && Instant::now() < *until
        {
            return Err(Unreachable::Paused(why.clone()));
        }
        match self.open(credentials, state.last.as_ref()).await {
            Ok(connection) => {
                state.last = Some(HostPort::clone(&connection.controller));
                state.backoff.reset();
                state.paused = None;
                state.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let until = Instant::now() + state.backoff.pause();
                state.paused = Some((until, describe(&error)));
                Err(error)
            }
        }
    }

    /// A call has failed on it: the next one goes elsewhere. What else is under way on it may go on.
    pub(super) async fn forget(&self, connection: &Connection) {
        let mut state = self.state.lock().await;
        let current = state.connection.as_ref();
        if current.is_some_and(|current| Arc::ptr_eq(&current.controller, &connection.controller)) {
            state.connection = None;
        }
    }

    /// Ends the connection if it was made with another certificate than this.
    pub(super) async fn renewed(&self, credentials: &Credentials) {
        let mut state = self.state.lock().await;
        let old = |current: &mut Connection| current.credentials.chain != credentials.chain;
        if let Some(old) = state.connection.take_if(old) {
            info!(controller = %old.controller, "there is a new certificate; relayed streams begin anew with it");
            old.ended.cancel();
        }
    }

    async fn open(
        &self,
        credentials: &Arc<Credentials>,
        last: Option<&HostPort>,
    ) -> Result<Connection, Unreachable> {
        let mut failure = Unreachable::Paused("no controller is named".to_owned());
        for controller in self.controllers.shuffled_after(last) {
            match self.open_to(controller, credentials).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    let error_report = &error as &dyn std::error::Error;
                    warn!(error = error_report, "a controller is not reached");
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    async fn open_to(
        &self,
        controller: HostPort,
        credentials: &Arc<Credentials>,
    ) -> Result<Connection, Unreachable> {
        let stream = dial(&controller, credentials.controller()).await?;
        let handshake = http2::Builder::new(Supervised(self.tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(STREAM_WINDOW as usize)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_LIMIT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, driving) = match handshake {
            Ok(opened) => opened,
            Err(source) => return Err(Unreachable::Handshake { controller, source }),
        };
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let until = ended.clone();
        self.tasks.spawn(async move {
            // However this ends, the calls hear of it.
            let _guard = guard;
            tokio::select! {
                () = until.cancelled() => {}
                _ = driving => {}
            }
        });
        info!(%controller, "relaying to the control plane");
        Ok(Connection {
            controller: Arc::new(controller),
            sender,
            ended,
            credentials: Arc::clone(credentials),
        })
    }
}

/// An error with its causes, in one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
