//! Upgraded HTTP/1 connections as bodies.

use super::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf};
use tokio::sync::oneshot;

/// Read at once from an upgraded connection: most WebSocket messages fit.
const READ: usize = 8 * 1024;

/// In a request's extensions: the exchange is to become something else. None: it is a CONNECT.
#[derive(Debug, Clone)]
pub struct Upgrade(pub Option<HeaderValue>);

/// What comes on a connection once it is upgraded; nothing, where it never is.
#[derive(Debug)]
pub(super) struct UpgradedRead {
    state: State,
    buffer: BytesMut,
}

#[derive(Debug)]
enum State {
    Waiting(oneshot::Receiver<ReadHalf<TokioIo<Upgraded>>>),
    Reading(ReadHalf<TokioIo<Upgraded>>),
    Ended,
}

/// An upgrade that has not happened yet.
pub(super) struct Pending {
    upgrade: OnUpgrade,
    read: oneshot::Sender<ReadHalf<TokioIo<Upgraded>>>,
}

/// The parts of an upgrade to come: what will be read from it, and how to begin it.
pub(super) fn pending(upgrade: OnUpgrade) -> (Body, Pending) {
    let (sender, receiver) = oneshot::channel();
    let read = UpgradedRead {
        state: State::Waiting(receiver),
        buffer: BytesMut::new(),
    };
    let pending = Pending {
        upgrade,
        read: sender,
    };
    (Body::upgraded(read), pending)
}

impl Pending {
    /// Waits for the upgrade, then writes `body` to it until that ends. Reading goes on apart.
    pub(super) async fn run(self, mut body: Body) {
        let io = match self.upgrade.await {
            Ok(io) => TokioIo::new(io),
            Err(error) => {
                tracing::debug!(%error, "an upgrade did not happen");
                return;
            }
        };
        let (read, mut write) = tokio::io::split(io);
        // Whoever wanted to read may be gone: then only writing is left.
        self.read.send(read).ok();
        while let Some(frame) = body.frame().await {
            let Ok(Ok(data)) = frame.map(http_body::Frame::into_data) else {
                return;
            };
            if write.write_all(&data).await.is_err() || write.flush().await.is_err() {
                return;
            }
        }
        if let Err(error) = write.shutdown().await {
            tracing::debug!(%error, "an upgraded connection was gone before it was ended");
        }
    }
}

impl UpgradedRead {
    pub(super) fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        if let State::Waiting(receiver) = &mut self.state {
            self.state = match ready!(Pin::new(receiver).poll(context)) {
                Ok(read) => State::Reading(read),
                Err(_) => State::Ended,
            };
        }
        let State::Reading(read) = &mut self.state else {
            return Poll::Ready(Ok(None));
        };
        self.buffer.resize(READ, 0);
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(read).poll_read(context, &mut buffer))?;
        let count = buffer.filled().len();
        if count == 0 {
            self.state = State::Ended;
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(Ok(Some(self.buffer.split_to(count).freeze())))
    }
}
