//! One client connection of any of the demo's protocols, and one call on it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use crate::args::dev::{Family, Protocol};

use super::reply::{self, Hello, Reply};
use super::tally::Answer;
use super::{banner, greeter, secure, websocket};

/// What is called and how.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) protocol: Protocol,
    pub(super) target: String,
    pub(super) family: Option<Family>,
    /// Whom a server's own TLS must be by.
    pub(super) trust: Option<Arc<rustls::ClientConfig>>,
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: String,
}

/// An open connection.
#[derive(Debug)]
pub(super) enum Connection {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
    Grpc(Channel),
    Websocket(TokioIo<hyper::upgrade::Upgraded>),
    Banner(BufReader<TcpStream>),
}

/// Why a call got nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The connection had been closed before the request went out: any client opens another and sends again.
    #[error("the connection was closed before the request")]
    Unsent,
    #[error("{0}")]
    Failed(String),
}

impl Call {
    /// Connects, as far as the protocol has something to say before the first request.
    pub(super) async fn connect(&self) -> Result<Connection, Trouble> {
        let address = self.resolve().await?;
        if matches!(self.protocol, Protocol::Grpc | Protocol::GrpcStream) {
            let uri = Uri::try_from(format!("http://{}", self.target)).map_err(failed)?;
            let channel = Channel::builder(uri)
                .connect_with_connector(Dial { address })
                .await
                .map_err(|error| failed(format!("{error:?}")))?;
            return Ok(Connection::Grpc(channel));
        }
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        match self.protocol {
            Protocol::Http1 => http1(stream).await,
            Protocol::Tls => {
                let trust = self.trust.clone().ok_or_else(|| failed("no trust"))?;
                http1(secure::connect(trust, stream).await.map_err(failed)?).await
            }
            Protocol::Http2 => {
                let (sender, connection) = hyper::client::conn::http2::handshake(
                    TokioExecutor::new(),
                    TokioIo::new(stream),
                )
                .await
                .map_err(failed)?;
                tokio::spawn(connection);
                Ok(Connection::Http2(sender))
            }
            Protocol::Websocket => self.upgrade(stream).await,
            _ => Ok(Connection::Banner(BufReader::new(stream))),
        }
    }

    async fn resolve(&self) -> Result<SocketAddr, Trouble> {
        let addresses = tokio::net::lookup_host(&self.target)
            .await
            .map_err(|error| failed(format!("resolve {}: {error}", self.target)))?;
        let wanted = |address: &SocketAddr| match self.family {
            Some(Family::V4) => address.is_ipv4(),
            Some(Family::V6) => address.is_ipv6(),
            None => true,
        };
        let found = addresses.into_iter().find(wanted);
        found.ok_or_else(|| {
            failed(format!(
                "{} has no address of the family {:?}",
                self.target, self.family
            ))
        })
    }

    async fn upgrade(&self, stream: TcpStream) -> Result<Connection, Trouble> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        tokio::spawn(connection.with_upgrades());
        let mut request = self.request(&self.path, Bytes::new())?;
        *request.method_mut() = http::Method::GET;
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        // Any 16 bytes: the key only shows that the server speaks WebSocket (RFC 6455 §4.1).
        headers.insert(
            header::SEC_WEBSOCKET_KEY,
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );
        let response = sender.send_request(request).await.map_err(failed)?;
        let accepted = response
            .headers()
            .get(header::SEC_WEBSOCKET_ACCEPT)
            .is_some_and(|key| key == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        if response.status() != StatusCode::SWITCHING_PROTOCOLS || !accepted {
            return Err(failed(format!("no upgrade: {}", response.status())));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(failed)?;
        Ok(Connection::Websocket(TokioIo::new(upgraded)))
    }

    fn request(&self, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Trouble> {
        let absolute = self.protocol == Protocol::Http2;
        let uri = if absolute {
            format!("http://{}{path}", self.target)
        } else {
            path.to_string()
        };
        let mut request = Request::post(uri).body(Full::new(body)).map_err(failed)?;
        if !absolute {
            request.headers_mut().insert(
                header::HOST,
                HeaderValue::from_str(&self.target).map_err(failed)?,
            );
        }
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }

    /// One call.
    pub(super) async fn call(&self, connection: &mut Connection) -> Result<Answer, Trouble> {
        match connection {
            Connection::Http1(sender) => {
                sender.ready().await.map_err(|_| Trouble::Unsent)?;
                let request = self.request(&self.path, Bytes::from(self.body.clone()))?;
                self.read(sender.send_request(request).await.map_err(unsent)?)
                    .await
            }
            Connection::Http2(sender) => {
                sender.ready().await.map_err(|_| Trouble::Unsent)?;
                let request = self.request(&self.path, Bytes::from(self.body.clone()))?;
                self.read(sender.send_request(request).await.map_err(unsent)?)
                    .await
            }
            Connection::Grpc(channel) => self.grpc(channel.clone()).await,
            Connection::Websocket(stream) => {
                websocket::write(stream, &self.body, Some([7, 11, 13, 17]))
                    .await
                    .map_err(failed)?;
                let text = websocket::read(stream)
                    .await
                    .map_err(failed)?
                    .ok_or_else(|| failed("the server closed"))?;
                Ok(self.judge(serde_json::from_str(&text).map_err(failed)?))
            }
            Connection::Banner(stream) => self.banner(stream).await,
        }
    }

    async fn read(
        &self,
        response: http::Response<hyper::body::Incoming>,
    ) -> Result<Answer, Trouble> {
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(failed)?
            .to_bytes();
        Ok(match status {
            StatusCode::OK => self.judge(serde_json::from_slice(&body).map_err(failed)?),
            StatusCode::FORBIDDEN => Answer::Refused("403".to_string()),
            status => Answer::Failed(format!(
                "{status}: {}",
                String::from_utf8_lossy(&body)
                    .chars()
                    .take(120)
                    .collect::<String>()
            )),
        })
    }

    async fn grpc(&self, channel: Channel) -> Result<Answer, Trouble> {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(failed)?;
        let mut request = tonic::Request::new(Hello {
            body: self.body.clone(),
        });
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (
                tonic::metadata::AsciiMetadataKey::from_bytes(name.as_ref()),
                value.as_bytes().try_into(),
            ) {
                request.metadata_mut().append(name, value);
            }
        }
        let codec = ProstCodec::<Hello, Reply>::default();
        let answer = if self.protocol == Protocol::Grpc {
            grpc.unary(
                request,
                http::uri::PathAndQuery::from_static(greeter::HELLO),
                codec,
            )
            .await
            .map(|answer| answer.into_inner())
        } else {
            let path = http::uri::PathAndQuery::from_static(greeter::STREAM);
            match grpc.server_streaming(request, path, codec).await {
                Ok(answer) => whole(answer.into_inner()).await,
                Err(status) => Err(status),
            }
        };
        Ok(match answer {
            Ok(reply) => self.judge(reply),
            Err(status) if status.code() == tonic::Code::PermissionDenied => {
                Answer::Refused(status.message().to_string())
            }
            Err(status) => Answer::Failed(format!("{:?}: {}", status.code(), status.message())),
        })
    }

    /// Reads the greeting that the server sends unasked, then has one line given back.
    async fn banner(&self, stream: &mut BufReader<TcpStream>) -> Result<Answer, Trouble> {
        let mut line = String::new();
        stream.read_line(&mut line).await.map_err(failed)?;
        let server = line
            .strip_prefix(banner::GREETING)
            .map(|name| name.trim_end().to_string());
        let server = server.ok_or_else(|| {
            failed(if line.is_empty() {
                "closed before the greeting".into()
            } else {
                format!("greeted with {line:?}")
            })
        })?;
        stream
            .write_all(format!("{}\n", self.body).as_bytes())
            .await
            .map_err(failed)?;
        line.clear();
        if stream.read_line(&mut line).await.map_err(failed)? == 0 {
            return Err(failed(banner::GREETED));
        }
        Ok(self.judge(Reply {
            server,
            xfcc: String::new(),
            echo: line.trim_end().to_string(),
        }))
    }

    /// An answer is right only if the body came back unharmed.
    fn judge(&self, reply: Reply) -> Answer {
        if reply.echo != self.body {
            return Answer::Failed(format!(
                "{} bytes came back as {}",
                self.body.len(),
                reply.echo.len()
            ));
        }
        Answer::Ok {
            server: reply.server,
            identity: reply::identity(&reply.xfcc),
        }
    }
}

async fn http1<S>(stream: S) -> Result<Connection, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Its error reaches the caller through the request that it breaks.
    tokio::spawn(connection);
    Ok(Connection::Http1(sender))
}

/// Reads a stream to its end: every message, then the trailers.
async fn whole(mut stream: tonic::Streaming<Reply>) -> Result<Reply, tonic::Status> {
    let mut last = None;
    let mut count = 0;
    while let Some(reply) = stream.next().await {
        last = Some(reply?);
        count += 1;
    }
    let trailers = stream.trailers().await?;
    match last {
        Some(reply) if count == greeter::STREAM_LENGTH && trailers.is_some() => Ok(reply),
        _ => Err(tonic::Status::data_loss(format!(
            "{count} messages, trailers: {}",
            trailers.is_some()
        ))),
    }
}

fn failed(error: impl ToString) -> Trouble {
    Trouble::Failed(error.to_string())
}

fn unsent(error: hyper::Error) -> Trouble {
    if error.is_canceled() {
        Trouble::Unsent
    } else {
        Trouble::Failed(format!("{error:?}"))
    }
}

/// Connects a gRPC channel to the one address that was resolved, so that the family asked for is the family used.
struct Dial {
    address: SocketAddr,
}

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.address;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
