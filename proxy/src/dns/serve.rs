//! The sockets: UDP and TCP on each address.

use super::answer::{Known, Question, Target, read};
use super::forward::{Resolvers, forward};
use super::{Counters, Outcome};
use crate::config::Bind;
use crate::metrics::Metrics;
use crate::net;
use crate::snapshot::{Directory, Host};
use crate::supervise::Tasks;
use crate::xds::{Answer, Xds};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

/// Questions at once, over both transports. A host asks a few at a time; more than this is a loop or a flood.
const QUESTIONS: usize = 1_024;
/// TCP connections at once.
const CONNECTIONS: usize = 128;
/// A connection without a question for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// For the control plane to say what a name is; the C library asks again after 5 s.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);
/// A question never needs more; larger packets are cut and then not understood.
const PACKET: usize = 4_096;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for DNS ({transport}); is another program there? Set listen.dns to a free address, or to [] for none"
)]
pub struct BindError {
    address: SocketAddr,
    transport: &'static str,
    source: io::Error,
}

/// Binds every address and starts answering from what any of the host's workloads is told. A v6 address that is only there by default may be missing.
pub async fn start(
    binds: &[Bind],
    told: Vec<Xds>,
    resolvers: Resolvers,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<(), BindError> {
    let server = Server {
        told: told.into(),
        resolvers,
        counters: Counters::new(metrics),
        questions: Arc::new(Semaphore::new(QUESTIONS)),
        connections: Arc::new(Semaphore::new(CONNECTIONS)),
        tasks: tasks.clone(),
    };
    for bind in binds {
        match sockets(bind.address).await {
            Ok((udp, tcp)) => {
                info!(address = %bind.address, "answering DNS");
                tasks.vital("dns over udp", server.clone().serve_udp(udp));
                tasks.vital("dns over tcp", server.clone().serve_tcp(tcp));
            }
            Err(error) if !bind.required => {
                warn!(address = %bind.address, error = %error.source, "no DNS here");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn sockets(address: SocketAddr) -> Result<(UdpSocket, TcpListener), BindError> {
    let failed = |transport| {
        move |source| BindError {
            address,
            transport,
            source,
        }
    };
    let udp = UdpSocket::bind(address).await.map_err(failed("UDP"))?;
    let tcp = net::listen(address, false).map_err(failed("TCP"))?;
    Ok((udp, tcp))
}

#[derive(Clone)]
struct Server {
    told: Arc<[Xds]>,
    resolvers: Resolvers,
    counters: Counters,
    questions: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    tasks: Tasks,
}

impl Server {
    async fn serve_udp(self, socket: UdpSocket) {
        let stopping = self.tasks.stopping();
        let socket = Arc::new(socket);
        let mut buffer = vec![0; PACKET];
        loop {
            let received = tokio::select! {
                () = stopping.cancelled() => return,
                received = socket.recv_from(&mut buffer) => received,
            };
            // An error is an ICMP message about an earlier answer: nothing to do with this question.
            let Ok((length, asker)) = received else {
                continue;
            };
            let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
                self.counters.count(Outcome::Dropped);
                continue;
            };
            let packet = buffer[..length].to_vec();
            let (server, socket) = (self.clone(), Arc::clone(&socket));
            self.tasks.spawn(async move {
                if let Some(answer) = server.answer(&packet, true).await {
                    // Whoever asked and is gone needs no answer.
                    socket.send_to(&answer, asker).await.ok();
                }
                drop(permit);
            });
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        let stopping = self.tasks.stopping();
        loop {
            let (stream, _) = tokio::select! {
                () = stopping.cancelled() => return,
                accepted = net::accept(&listener) => accepted,
            };
            let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
                self.counters.count(Outcome::Dropped);
                continue;
            };
            let (server, stopping) = (self.clone(), stopping.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = stopping.cancelled() => {}
                    // The asker's end, whatever its way, is the end of this.
                    _ = server.serve_connection(stream) => {}
                }
                drop(permit);
            });
        }
    }

    async fn serve_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let length = timeout(IDLE, stream.read_u16()).await??;
            let mut packet = vec![0; usize::from(length)];
            timeout(IDLE, stream.read_exact(&mut packet)).await??;
            let Ok(_permit) = self.questions.acquire().await else {
                return Ok(());
            };
            let Some(answer) = self.answer(&packet, false).await else {
                return Ok(());
            };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let framed = [&length.to_be_bytes()[..], &answer].concat();
            timeout(IDLE, stream.write_all(&framed)).await??;
        }
    }

    /// The answer to one packet. `None`: it deserves none.
    async fn answer(&self, packet: &[u8], udp: bool) -> Option<Vec<u8>> {
        let question = match read(packet) {
            Ok(question) => question,
            Err(answer) => {
                self.counters.count(Outcome::Refused);
                return answer;
            }
        };
        let (outcome, answer) = match question.target() {
            Target::Service(name) => self.service(&question, &name, udp).await,
            Target::Node => (Outcome::Answered, question.answer(Known::Nothing, udp)),
            Target::Nothing => (Outcome::Missing, question.answer(Known::Missing, udp)),
            Target::Elsewhere => match forward(&self.resolvers, packet, udp).await {
                Some(answer) => (Outcome::Forwarded, Some(answer)),
                None => (
                    Outcome::Unavailable,
                    question.answer(Known::Unavailable, udp),
                ),
            },
        };
        self.counters.count(outcome);
        answer
    }

    async fn service(
        &self,
        question: &Question,
        name: &str,
        udp: bool,
    ) -> (Outcome, Option<Vec<u8>>) {
        match self.host(name).await {
            Answer::Found(host) => (Outcome::Answered, question.answer(Known::Host(&host), udp)),
            Answer::Missing => (Outcome::Missing, question.answer(Known::Missing, udp)),
            Answer::Unavailable => (
                Outcome::Unavailable,
                question.answer(Known::Unavailable, udp),
            ),
        }
    }

    /// The first workload's answer that knows the name: an address is the same for all that see it. There is no such name
    /// where all say so.
    async fn host(&self, name: &str) -> Answer<Arc<Host>> {
        let deadline = Instant::now() + RESOLVE_LIMIT;
        // Who has been told nothing at all, for want of a certificate, would make the others' names wait.
        let told = |xds: &&Xds| xds.snapshots().borrow().inbound.is_some();
        let some = self.told.iter().any(|xds| told(&xds));
        let asked = self.told.iter().filter(|xds| !some || told(xds));
        let mut answers: FuturesUnordered<_> = asked.map(|xds| xds.host(name, deadline)).collect();
        let mut missing = true;
        while let Some(answer) = answers.next().await {
            match answer {
                Answer::Found(host) => return Answer::Found(host),
                Answer::Missing => {}
                Answer::Unavailable => missing = false,
            }
        }
        match missing {
            true => Answer::Missing,
            false => Answer::Unavailable,
        }
    }
}
