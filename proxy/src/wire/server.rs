//! The accepting side of one HTTP/2 connection. Its streams are served inside its own task: what they write in one turn
//! leaves in one flush, and they end with the connection.

use super::{CONNECTION_WINDOW, FRAME, HEADERS, SEND_BUFFER, STREAM_WINDOW, STREAMS};
use crate::drain::Work;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use std::future::Future;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// One stream: what was asked, and where to answer.
#[derive(Debug)]
pub struct Stream {
    /// What was asked.
    pub request: Request<RecvStream>,
    /// Where to answer.
    pub respond: SendResponse<Bytes>,
}

/// Serves until the peer or a drain ends the connection, or `ending` is ready: then nothing new is taken, and what is under
/// way is finished.
pub async fn serve<I, H, F>(
    io: I,
    mut work: Work,
    ending: impl Future<Output = ()>,
    handler: H,
) -> Result<(), h2::Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Stream) -> F,
    F: Future<Output = ()>,
{
    let mut connection = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(STREAMS)
        .enable_connect_protocol()
        .handshake::<I, Bytes>(io)
        .await?;
    let mut streams = FuturesUnordered::new();
    let mut end = pin!(async move {
        tokio::select! {
            () = work.drained() => {}
            () = ending => {}
        }
    });
    let mut ending = false;
    loop {
        tokio::select! {
            biased;
            Some(()) = streams.next() => {}
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => streams.push(handler(Stream { request, respond })),
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            () = &mut end, if !ending => {
                ending = true;
                connection.graceful_shutdown();
            }
        }
    }
}
