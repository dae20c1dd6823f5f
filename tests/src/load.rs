//! Load that is bounded in count and time, counted by the client that sends it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One connection a worker, one request at a time on each.
    Http1,
    /// All workers are streams of one HTTP/2 connection; unary calls that end with trailers.
    Grpc,
}

/// A closed loop: `workers` send as fast as they are answered, for `time`.
#[derive(Debug, Clone)]
pub struct Load {
    /// What is sent.
    pub kind: Kind,
    /// Connections (HTTP/1) or streams (gRPC).
    pub workers: usize,
    /// How long.
    pub time: Duration,
    /// Where to connect.
    pub address: SocketAddr,
    /// The `Host` or `:authority`.
    pub authority: String,
}

/// What became of the load.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Requests answered as they should be.
    pub succeeded: u64,
    /// Requests that got another status, or none.
    pub failed: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Microseconds, sorted.
    pub latencies: Vec<u32>,
}

impl Report {
    /// The latency below which `share` (0 to 1) of the requests stayed, in microseconds.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u32 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies.get(at).copied().unwrap_or(0)
    }

    /// Answers a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.succeeded as f64 / self.elapsed.as_secs_f64()
    }
}

impl Load {
    /// Sends the load and counts.
    ///
    /// # Errors
    /// When no connection can be made at all; failures after that are counted.
    pub async fn run(&self) -> anyhow::Result<Report> {
        let begin = Instant::now();
        let until = begin + self.time;
        let mut workers = JoinSet::new();
        match self.kind {
            Kind::Http1 => {
                for _ in 0..self.workers {
                    let sender = self.http1().await?;
                    workers.spawn(http1_worker(sender, self.authority.clone(), until));
                }
            }
            Kind::Grpc => {
                let sender = self.http2().await?;
                for _ in 0..self.workers {
                    workers.spawn(grpc_worker(sender.clone(), self.authority.clone(), until));
                }
            }
        }
        let mut report = Report::default();
        while let Some(worker) = workers.join_next().await {
            let worker = worker.context("a load worker panicked")?;
            report.succeeded += worker.succeeded;
            report.failed += worker.failed;
            report.latencies.extend(worker.latencies);
        }
        report.elapsed = begin.elapsed();
        report.latencies.sort_unstable();
        Ok(report)
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let socket = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("connecting to {}", self.address))?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    async fn http1(&self) -> anyhow::Result<hyper::client::conn::http1::SendRequest<Full<Bytes>>> {
        let io = TokioIo::new(self.connect().await?);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn http2(&self) -> anyhow::Result<hyper::client::conn::http2::SendRequest<Full<Bytes>>> {
        let io = TokioIo::new(self.connect().await?);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// What one worker counted.
#[derive(Default)]
struct Counts {
    succeeded: u64,
    failed: u64,
    latencies: Vec<u32>,
}

impl Counts {
    /// Counts one outcome; returns whether the worker may go on.
    fn add(&mut self, begin: Instant, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => {
                self.succeeded += 1;
                let micros = begin.elapsed().as_micros().try_into().unwrap_or(u32::MAX);
                self.latencies.push(micros);
            }
            Err(_) => self.failed += 1,
        }
    }
}

async fn http1_worker(
    mut sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    authority: String,
    until: Instant,
) -> Counts {
    let mut counts = Counts::default();
    while Instant::now() < until && sender.ready().await.is_ok() {
        let begin = Instant::now();
        let outcome = async {
            let request = Request::get("/bench")
                .header("host", &authority)
                .body(Full::default())?;
            let response = sender.send_request(request).await?;
            if !response.status().is_success() {
                bail!("status {}", response.status());
            }
            response.into_body().collect().await?;
            Ok(())
        };
        let outcome = outcome.await;
        counts.add(begin, outcome);
    }
    counts
}

async fn grpc_worker(
    mut sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    authority: String,
    until: Instant,
) -> Counts {
    // A gRPC frame: not compressed, five bytes long.
    const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";
    let mut counts = Counts::default();
    while Instant::now() < until && sender.ready().await.is_ok() {
        let begin = Instant::now();
        let outcome = async {
            let request = Request::post(format!("http://{authority}/bench.Echo/Unary"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(Bytes::from_static(MESSAGE)))?;
            let response = sender.send_request(request).await?;
            let trailers = response.into_body().collect().await?.trailers().cloned();
            match trailers.as_ref().and_then(|all| all.get("grpc-status")) {
                Some(status) if status == "0" => Ok(()),
                other => bail!("grpc-status {other:?}"),
            }
        };
        let outcome = outcome.await;
        counts.add(begin, outcome);
    }
    counts
}
