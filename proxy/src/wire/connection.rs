//! The calling side of one HTTP/2 connection, and the task that drives it.

use super::{
    CONNECTION_WINDOW, FRAME, HEADERS, IDLE, PING_INTERVAL, PING_LIMIT, SEND_BUFFER, STREAM_WINDOW,
    STREAMS,
};
use crate::supervise::Tasks;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// One connection. Streams are opened through leases, so that it is known how many there are.
#[derive(Debug)]
pub struct Connection {
    send: SendRequest<Bytes>,
    use_: Mutex<Use>,
}

#[derive(Debug)]
struct Use {
    streams: u32,
    /// No further stream may be opened.
    closed: bool,
    since: Instant,
}

/// The right to open one stream, and the count of it until this is dropped.
#[derive(Debug)]
pub struct StreamLease {
    connection: Arc<Connection>,
}

impl Connection {
    /// Begins HTTP/2 on `io` and starts the task that drives it.
    pub async fn open<I>(io: I, tasks: &Tasks) -> Result<Arc<Self>, h2::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + std::marker::Send + 'static,
    {
        let (send, mut driver) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(HEADERS)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(io)
            .await?;
        let connection = Arc::new(Self {
            send,
            use_: Mutex::new(Use {
                streams: 0,
                closed: false,
                since: Instant::now(),
            }),
        });
        let pings = driver.ping_pong();
        let driven = Arc::downgrade(&connection);
        tasks.spawn(async move {
            let watch = watch(pings, || driven.upgrade());
            tokio::select! {
                ended = driver => if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP/2 connection ended");
                },
                reason = pin!(watch) => tracing::debug!(reason, "closing an HTTP/2 connection"),
            }
            if let Some(connection) = driven.upgrade() {
                connection.close();
            }
        });
        Ok(connection)
    }

    /// The right to one more stream. None: it is full, or closing.
    pub fn lease(self: &Arc<Self>) -> Option<StreamLease> {
        let mut state = self.state();
        let limit = usize::try_from(STREAMS)
            .unwrap_or(usize::MAX)
            .min(self.send.current_max_send_streams());
        if state.closed || usize::try_from(state.streams).unwrap_or(usize::MAX) >= limit {
            return None;
        }
        state.streams += 1;
        Some(StreamLease {
            connection: self.clone(),
        })
    }

    /// Opens no further streams; those that are open go on.
    pub fn close(&self) {
        self.state().closed = true;
    }

    /// Whether it opens no further streams.
    pub fn closed(&self) -> bool {
        self.state().closed
    }

    /// Closes it if it has had no stream for a while.
    fn close_if_idle(&self) -> bool {
        let mut state = self.state();
        let idle = state.streams == 0 && state.since.elapsed() >= IDLE;
        state.closed |= idle;
        state.closed && state.streams == 0
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamLease {
    /// The handle to open the stream with.
    pub fn send(&self) -> SendRequest<Bytes> {
        self.connection.send.clone()
    }

    /// The connection turned out to be ending: others must not try it.
    pub fn close(&self) {
        self.connection.close();
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        let mut state = self.connection.state();
        state.streams -= 1;
        if state.streams == 0 {
            state.since = Instant::now();
        }
    }
}

/// Ends when the peer no longer answers, or when the connection is not needed any more.
async fn watch(
    pings: Option<PingPong>,
    connection: impl Fn() -> Option<Arc<Connection>>,
) -> &'static str {
    let Some(mut pings) = pings else {
        // Only the first taker gets it, and that is the task of this connection.
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        let Some(connection) = connection() else {
            return "nobody uses it";
        };
        if connection.close_if_idle() {
            return "idle";
        }
        drop(connection);
        match tokio::time::timeout(PING_LIMIT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return "the peer ended it",
            Err(_) => return "the peer does not answer pings",
        }
    }
}
