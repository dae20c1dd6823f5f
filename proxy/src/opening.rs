//! The first moments of a connection whose protocol is not known: whoever speaks first tells.
//!
//! A client that speaks is listened to. One that stays silent for a moment may be waiting for the server, so the server is
//! connected then, and whichever speaks first decides: the server's bytes make the connection opaque, the client's are
//! detected as ever. So a server-first protocol waits `HEAD_START` once, and an HTTP client that connects early and speaks
//! late is still HTTP.

use crate::detect::{Detected, detect};
use crate::tcp::Upstream;
use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

/// How long a client may be silent before the server is connected too. Clients that speak first do so within a round trip
/// on the same host; ten milliseconds is what a server-first protocol pays on a port that declares nothing.
pub const HEAD_START: Duration = Duration::from_millis(10);
/// How long the rest of a first line may take. Then the bytes are opaque: the server knows better what to make of them.
const PARTIAL: Duration = Duration::from_secs(1);
/// Read at once: a request's head, mostly.
const FIRST_READ: usize = 4 * 1024;

/// What is known after the first moments.
#[derive(Debug)]
pub struct Opening {
    /// What it speaks.
    pub detected: Detected,
    /// What the client has said already.
    pub first: BytesMut,
    /// The server, where it was connected meanwhile. Of no use for HTTP.
    pub upstream: Option<Upstream>,
}

/// Finds out what `client` speaks. `head_start`: None where the server never speaks first.
pub async fn open<C, E>(
    client: &mut C,
    head_start: Option<Duration>,
    connect: impl AsyncFnOnce() -> Result<Upstream, E>,
) -> Result<Opening, E>
where
    C: AsyncRead + Unpin,
    E: From<io::Error>,
{
    let mut first = BytesMut::new();
    let Some(head_start) = head_start else {
        let detected = first_bytes(client, &mut first).await?;
        return Ok(Opening {
            detected,
            first,
            upstream: None,
        });
    };
    if let Ok(detected) = tokio::time::timeout(head_start, first_bytes(client, &mut first)).await {
        let detected = detected?;
        return Ok(Opening {
            detected,
            first,
            upstream: None,
        });
    }
    let mut upstream = connect().await?;
    let detected = tokio::select! {
        biased;
        detected = first_bytes(client, &mut first) => detected?,
        said = upstream.readable() => said.map(|_| Detected::Opaque)?,
    };
    Ok(Opening {
        detected,
        first,
        upstream: Some(upstream),
    })
}

/// Reads until the bytes tell. What was read stays in `first` if this is dropped.
async fn first_bytes<C>(client: &mut C, first: &mut BytesMut) -> io::Result<Detected>
where
    C: AsyncRead + Unpin,
{
    loop {
        if let Some(detected) = detect(first) {
            return Ok(detected);
        }
        // A client may be silent for as long as it likes; the kernel's keepalive finds those that are gone.
        let read = if first.is_empty() {
            Ok(read(client, first).await)
        } else {
            tokio::time::timeout(PARTIAL, read(client, first)).await
        };
        match read {
            // The client has ended its half, or will not go on: nothing more will tell.
            Err(_) | Ok(Ok(0)) => return Ok(Detected::Opaque),
            Ok(read) => read?,
        };
    }
}

/// Reads what is there, over the stack: thousands of clients that are silent hold no buffer.
async fn read<C>(client: &mut C, first: &mut BytesMut) -> io::Result<usize>
where
    C: AsyncRead + Unpin,
{
    poll_fn(|context| {
        let mut room = [MaybeUninit::uninit(); FIRST_READ];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *client).poll_read(context, &mut read))?;
        first.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
    .await
}
