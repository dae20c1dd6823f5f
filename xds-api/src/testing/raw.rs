//! A stream of any method, on which the test writes every request itself.

use std::str::FromStr;

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::{PATIENCE, QUEUE};

/// `Q` goes out, `R` comes back.
#[derive(Debug)]
pub struct RawStream<Q, R> {
    requests: mpsc::Sender<Q>,
    responses: Streaming<R>,
}

impl<Q, R> RawStream<Q, R>
where
    Q: Message + 'static,
    R: Message + Default + 'static,
{
    /// Calls a method with its first request. An error where the server refuses the stream.
    pub async fn open(channel: Channel, path: &str, first: Q) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(QUEUE);
        requests.send(first).await.map_err(|_| closed())?;
        let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
        let unready = |failure| Status::unavailable(format!("no connection: {failure}"));
        client.ready().await.map_err(unready)?;
        let path = tonic::codegen::http::uri::PathAndQuery::from_str(path)
            .map_err(|_| Status::internal(format!("{path:?} is no path")))?;
        let request = tonic::Request::new(ReceiverStream::new(receiver));
        let codec = ProstCodec::<Q, R>::default();
        let responses = client.streaming(request, path, codec).await?.into_inner();
        Ok(Self {
            requests,
            responses,
        })
    }

    /// Sends one more request.
    pub async fn send(&self, request: Q) -> Result<(), Status> {
        self.requests.send(request).await.map_err(|_| closed())
    }

    /// The next response. An error where the stream ends or nothing comes in time.
    pub async fn receive(&mut self) -> Result<R, Status> {
        let message = tokio::time::timeout(PATIENCE, self.responses.message());
        let silence = |_| Status::deadline_exceeded(format!("nothing came within {PATIENCE:?}"));
        message.await.map_err(silence)??.ok_or_else(closed)
    }
}

fn closed() -> Status {
    Status::unavailable("the stream is closed")
}
