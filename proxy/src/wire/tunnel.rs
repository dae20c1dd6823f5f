//! A CONNECT stream as a byte stream.

use super::receive::Receive;
use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both halves; each ends on its own.
#[derive(Debug)]
pub struct Tunnel {
    send: SendStream<Bytes>,
    receive: Receive,
    read: Bytes,
    ended: bool,
}

impl Tunnel {
    /// Of a stream's halves.
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self {
            send,
            receive: Receive::new(receive),
            read: Bytes::new(),
            ended: false,
        }
    }

    /// The next bytes as they came. None: the peer has ended its half.
    pub fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.read))));
        }
        loop {
            match ready!(self.receive.poll_bytes(context)) {
                None => return Poll::Ready(Ok(None)),
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Poll::Ready(Ok(Some(data))),
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
            }
        }
    }

    /// Waits until the peer's first bytes are here, without taking them. False: it has ended its half, or failed.
    pub async fn readable(&mut self) -> bool {
        let bytes = std::future::poll_fn(|context| self.poll_bytes(context)).await;
        match bytes {
            Ok(Some(bytes)) => {
                self.read = bytes;
                true
            }
            _ => false,
        }
    }

    /// Waits until the window takes something, then sends as much of `bytes` as it does.
    pub fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        let capacity = ready!(self.poll_capacity(context, bytes.len()))?;
        let piece = bytes.split_to(capacity.min(bytes.len()));
        Poll::Ready(
            self.send
                .send_data(piece, false)
                .map_err(|error| broken(&error)),
        )
    }

    fn poll_capacity(
        &mut self,
        context: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(wanted);
        match ready!(self.send.poll_capacity(context)) {
            Some(Ok(capacity)) => Poll::Ready(Ok(capacity)),
            Some(Err(error)) => Poll::Ready(Err(broken(&error))),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    /// Ends this side's half.
    pub fn finish(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.send
            .send_data(Bytes::new(), true)
            .map_err(|error| broken(&error))
    }

    /// Ends both halves as a TCP reset does.
    pub fn reset(&mut self) {
        self.ended = true;
        self.send.send_reset(Reason::CONNECT_ERROR);
    }

    /// Fails once the peer has reset the stream.
    pub fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        match ready!(self.send.poll_reset(context)) {
            Ok(_) => Poll::Ready(io::ErrorKind::ConnectionReset.into()),
            Err(error) => Poll::Ready(broken(&error)),
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
        let Some(mut bytes) = ready!(self.poll_bytes(context))? else {
            return Poll::Ready(Ok(()));
        };
        let length = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..length]);
        bytes.advance(length);
        self.read = bytes;
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
        let capacity = ready!(self.poll_capacity(context, bytes.len()))?;
        let length = capacity.min(bytes.len());
        let piece = Bytes::copy_from_slice(&bytes[..length]);
        self.send
            .send_data(piece, false)
            .map_err(|error| broken(&error))?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish())
    }
}
