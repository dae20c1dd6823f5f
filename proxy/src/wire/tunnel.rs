//! A CONNECT stream as a byte stream, whole or in halves.

use super::connection::StreamLease;
use super::receive::Receive;
use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both halves; each ends on its own.
#[derive(Debug)]
pub struct Tunnel {
    /// Towards the peer.
    pub send: TunnelSend,
    /// From the peer.
    pub receive: TunnelReceive,
}

/// The half towards the peer.
#[derive(Debug)]
pub struct TunnelSend {
    stream: SendStream<Bytes>,
    ended: bool,
}

/// The half from the peer.
#[derive(Debug)]
pub struct TunnelReceive {
    stream: Receive,
    /// The count of the stream, where this proxy opened it.
    _lease: Option<StreamLease>,
    /// Taken from the stream, not yet read.
    read: Bytes,
}

impl Tunnel {
    /// Of a stream's halves.
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self {
            send: TunnelSend {
                stream: send,
                ended: false,
            },
            receive: TunnelReceive {
                stream: Receive::new(receive),
                _lease: None,
                read: Bytes::new(),
            },
        }
    }

    /// Keeps the stream's count until the end.
    pub fn counted(mut self, lease: StreamLease) -> Self {
        self.receive._lease = Some(lease);
        self
    }
}

impl TunnelReceive {
    /// The next bytes as they came. None: the peer has ended its half.
    pub async fn bytes(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|context| self.poll_bytes(context)).await
    }

    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.read))));
        }
        loop {
            match ready!(self.stream.poll_bytes(context)) {
                None => return Poll::Ready(Ok(None)),
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Poll::Ready(Ok(Some(data))),
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
            }
        }
    }

    /// Waits until the peer's first bytes are here, without taking them. False: it has ended its half instead.
    pub async fn readable(&mut self) -> io::Result<bool> {
        let bytes = self.bytes().await?;
        let readable = bytes.is_some();
        self.read = bytes.unwrap_or_default();
        Ok(readable)
    }
}

impl TunnelSend {
    /// Sends all of `bytes`, as the window takes them.
    pub async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let capacity = poll_fn(|context| self.poll_capacity(context, bytes.len())).await?;
            self.send_data(bytes.split_to(capacity.min(bytes.len())), false)?;
        }
        Ok(())
    }

    fn poll_capacity(
        &mut self,
        context: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        self.stream.reserve_capacity(wanted);
        match ready!(self.stream.poll_capacity(context)) {
            Some(Ok(capacity)) => Poll::Ready(Ok(capacity)),
            Some(Err(error)) => Poll::Ready(Err(broken(&error))),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn send_data(&mut self, bytes: Bytes, last: bool) -> io::Result<()> {
        self.stream
            .send_data(bytes, last)
            .map_err(|error| broken(&error))
    }

    /// Ends this half.
    pub fn finish(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.send_data(Bytes::new(), true)
    }

    /// Ends both halves, as a TCP reset does.
    pub fn reset(&mut self) {
        self.ended = true;
        self.stream.send_reset(Reason::CONNECT_ERROR);
    }

    /// Waits until the peer resets the stream.
    pub async fn was_reset(&mut self) -> io::Error {
        match poll_fn(|context| self.stream.poll_reset(context)).await {
            Ok(_) => io::ErrorKind::ConnectionReset.into(),
            Err(error) => broken(&error),
        }
    }
}

/// A reset stream is to a byte stream what a TCP reset is.
fn broken(error: &h2::Error) -> io::Error {
    if error.is_reset() {
        return io::ErrorKind::ConnectionReset.into();
    }
    let kind = error
        .get_io()
        .map_or(io::ErrorKind::ConnectionAborted, io::Error::kind);
    io::Error::new(kind, error.to_string())
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut bytes) = ready!(self.receive.poll_bytes(context))? else {
            return Poll::Ready(Ok(()));
        };
        let length = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..length]);
        bytes.advance(length);
        self.receive.read = bytes;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let capacity = ready!(self.send.poll_capacity(context, bytes.len()))?;
        let length = capacity.min(bytes.len());
        self.send
            .send_data(Bytes::copy_from_slice(&bytes[..length]), false)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.finish())
    }
}
