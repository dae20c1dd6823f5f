//! One direction of a connection. An idle one holds no buffer.

use crate::wire::{TunnelReceive, TunnelSend};
use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// What is read first: a request or answer of most protocols.
const SMALL: usize = 4 * 1024;
/// What is read when a connection carries bulk: four TLS records.
const LARGE: usize = 64 * 1024;

/// What is read at once of a TLS stream: one record.
const RECORD: usize = 16 * 1024;

/// Reads as much as the connection tends to bring.
struct Reader<'a> {
    socket: ReadHalf<'a>,
    buffer: BytesMut,
    size: usize,
}

impl<'a> Reader<'a> {
    fn new(socket: ReadHalf<'a>) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            size: SMALL,
        }
    }

    /// The next bytes. None: the other side has ended its half.
    async fn read(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            self.buffer.reserve(self.size);
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    self.size = if count >= self.size {
                        LARGE.min(self.size * 2)
                    } else {
                        self.size
                    };
                    return Ok(Some(self.buffer.split().freeze()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.buffer = BytesMut::new();
            self.size = SMALL.max(self.size / 2);
            self.socket.readable().await?;
        }
    }
}

pub(super) async fn to_tunnel(
    socket: ReadHalf<'_>,
    first: Bytes,
    tunnel: &mut TunnelSend,
    counter: &Counter,
) -> io::Result<()> {
    counter.inc_by(first.len() as u64);
    tunnel.send(first).await?;
    let mut reader = Reader::new(socket);
    loop {
        let read = tokio::select! {
            biased;
            read = reader.read() => read?,
            error = tunnel.was_reset() => return Err(error),
        };
        let Some(bytes) = read else {
            return tunnel.finish();
        };
        counter.inc_by(bytes.len() as u64);
        tunnel.send(bytes).await?;
    }
}

pub(super) async fn from_tunnel(
    tunnel: &mut TunnelReceive,
    mut socket: WriteHalf<'_>,
    counter: &Counter,
) -> io::Result<()> {
    while let Some(bytes) = tunnel.bytes().await? {
        socket.write_all(&bytes).await?;
        counter.inc_by(bytes.len() as u64);
    }
    socket.shutdown().await
}

pub(super) async fn to_tcp(
    from: ReadHalf<'_>,
    first: Bytes,
    mut to: WriteHalf<'_>,
    counter: &Counter,
) -> io::Result<()> {
    let mut reader = Reader::new(from);
    let mut next = (!first.is_empty()).then_some(first);
    loop {
        let bytes = match next.take() {
            Some(bytes) => bytes,
            None => match reader.read().await? {
                Some(bytes) => bytes,
                None => return to.shutdown().await,
            },
        };
        to.write_all(&bytes).await?;
        counter.inc_by(bytes.len() as u64);
    }
}

/// Where one side is TLS, whose bytes can neither be waited for nor be tried for without being read.
pub(super) async fn copy<R, W>(
    mut from: R,
    first: Bytes,
    mut to: W,
    counter: &Counter,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut bytes = first;
    loop {
        if !bytes.is_empty() {
            to.write_all(&bytes).await?;
            to.flush().await?;
            counter.inc_by(bytes.len() as u64);
        }
        match read(&mut from).await? {
            Some(next) => bytes = next,
            None => return to.shutdown().await,
        }
    }
}

/// Reads over the stack, so that an idle connection holds no buffer.
pub(super) async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Option<Bytes>> {
    poll_fn(|context| {
        let mut room = [MaybeUninit::uninit(); RECORD];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *from).poll_read(context, &mut read))?;
        let filled = read.filled();
        Poll::Ready(Ok(
            (!filled.is_empty()).then(|| Bytes::copy_from_slice(filled))
        ))
    })
    .await
}
