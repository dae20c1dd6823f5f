//! Passes questions on to the host's own resolvers, as they stand, over the transport by which they came.

use rand::RngExt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// For one resolver; the C library's own patience for all of them together is 5 s.
const RESOLVER_LIMIT: Duration = Duration::from_secs(2);
/// The largest UDP answer there can be.
const LARGEST: usize = 65_535;
/// As many as the C library takes.
const RESOLVERS: usize = 3;
/// The two bytes of the id, and where the questions begin.
const HEADER: usize = 12;

/// The host's resolvers: given, or those of `resolv.conf`, read again when it changes.
#[derive(Debug, Clone)]
pub struct Resolvers {
    source: Arc<Source>,
}

#[derive(Debug)]
enum Source {
    Given(Vec<SocketAddr>),
    File {
        path: PathBuf,
        /// Our own addresses, lest we ask ourselves.
        own: Vec<SocketAddr>,
        read: Mutex<Read>,
    },
}

#[derive(Debug, Default)]
struct Read {
    modified: Option<SystemTime>,
    resolvers: Vec<SocketAddr>,
}

impl Resolvers {
    /// Always these.
    pub fn given(resolvers: Vec<SocketAddr>) -> Self {
        Self {
            source: Arc::new(Source::Given(resolvers)),
        }
    }

    /// Those of a `resolv.conf`, without `own`.
    pub fn file(path: PathBuf, own: Vec<SocketAddr>) -> Self {
        let read = Mutex::default();
        Self {
            source: Arc::new(Source::File { path, own, read }),
        }
    }

    fn now(&self) -> Vec<SocketAddr> {
        let (path, own, read) = match &*self.source {
            Source::Given(resolvers) => return resolvers.clone(),
            Source::File { path, own, read } => (path, own, read),
        };
        let modified = std::fs::metadata(path).and_then(|found| found.modified());
        let mut read = read.lock().expect("no code panics while it holds the list");
        let modified = modified.ok();
        if modified.is_some() && modified == read.modified {
            return read.resolvers.clone();
        }
        if let Ok(text) = std::fs::read_to_string(path) {
            read.resolvers = parse(&text, own);
            read.modified = modified;
        }
        read.resolvers.clone()
    }
}

fn parse(text: &str, own: &[SocketAddr]) -> Vec<SocketAddr> {
    let resolver = |line: &str| -> Option<SocketAddr> {
        let mut words = line.split_whitespace();
        if words.next()? != "nameserver" {
            return None;
        }
        let ip: IpAddr = words.next()?.parse().ok()?;
        Some(SocketAddr::new(ip, 53))
    };
    let all = text.lines().filter_map(resolver);
    all.filter(|one| !own.contains(one))
        .take(RESOLVERS)
        .collect()
}

/// Asks one resolver after the other. `None`: none of them answered.
pub(super) async fn forward(resolvers: &Resolvers, packet: &[u8], udp: bool) -> Option<Vec<u8>> {
    for resolver in resolvers.now() {
        let asked = async {
            match udp {
                true => over_udp(resolver, packet).await,
                false => over_tcp(resolver, packet).await,
            }
        };
        if let Ok(Ok(answer)) = timeout(RESOLVER_LIMIT, asked).await {
            return Some(answer);
        }
    }
    None
}

/// From a socket of its own, with an id of its own: whoever wants to slip in an answer has to guess both.
async fn over_udp(resolver: SocketAddr, packet: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    let asked = with_id(packet, rand::rng().random());
    socket.send(&asked).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = &buffer[..length];
        if answers(&asked, answer) {
            return Ok(with_id(answer, id(packet)));
        }
    }
}

async fn over_tcp(resolver: SocketAddr, packet: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let asked = with_id(packet, rand::rng().random());
    let length = u16::try_from(asked.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], &asked].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    match answers(&asked, &answer) {
        true => Ok(with_id(&answer, id(packet))),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn id(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[0], packet[1]])
}

fn with_id(packet: &[u8], id: u16) -> Vec<u8> {
    let mut changed = packet.to_vec();
    changed[..2].copy_from_slice(&id.to_be_bytes());
    changed
}

/// Whether a packet is the answer to what was asked: the id, the answer bit, and the same question.
fn answers(asked: &[u8], answer: &[u8]) -> bool {
    let Some(end) = question_end(asked) else {
        return false;
    };
    let shape = answer.len() >= HEADER && answer[2] & 0x80 != 0;
    if !shape || answer[..2] != asked[..2] {
        return false;
    }
    // A resolver that refuses may leave the question out.
    let questions = u16::from_be_bytes([answer[4], answer[5]]);
    let same = || {
        answer
            .get(HEADER..end)
            .is_some_and(|found| found.eq_ignore_ascii_case(&asked[HEADER..end]))
    };
    questions == 0 || same()
}

/// Where the first question ends: its labels, its type and its class.
fn question_end(packet: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1 + length;
        match length {
            0 => return (at + 4 <= packet.len()).then_some(at + 4),
            1..=63 => {}
            // A question has nothing before it that a pointer could lead to.
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_c_library_reads_it_without_ourselves() {
        let text = "# made by hand\nsearch example.org\nnameserver 127.0.0.1\nnameserver 10.0.0.2\n nameserver fd00::1\nnameserver x\noptions ndots:5\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";
        let own = ["127.0.0.1:53".parse().expect("an address")];
        let found: Vec<_> = parse(text, &own).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.2:53", "[fd00::1]:53", "10.0.0.3:53"]);
    }
}
