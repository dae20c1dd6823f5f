//! A resolver that asks a sidecar's DNS listener and tells addresses with the time that they may be kept.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::net::UdpSocket;

/// An answer takes as long as the sidecar asks its controller.
const LIMIT: Duration = Duration::from_secs(5);
/// `A` and `AAAA` (RFC 1035 §3.2.2, RFC 3596 §2.1).
const TYPES: [u16; 2] = [1, 28];

/// A socket of its own.
#[derive(Debug)]
pub struct Resolver {
    socket: UdpSocket,
}

impl Resolver {
    /// Asks the listener at `server`.
    ///
    /// # Errors
    /// There is no socket.
    pub async fn new(server: SocketAddr) -> std::io::Result<Resolver> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(server).await?;
        Ok(Resolver { socket })
    }

    /// The first IPv4 address of a name, and its time to live in seconds.
    ///
    /// # Errors
    /// No answer, or no address in it.
    pub async fn v4(&self, name: &str) -> anyhow::Result<(IpAddr, u32)> {
        self.ask(name, TYPES[0]).await
    }

    /// The first IPv6 address of a name, and its time to live in seconds.
    ///
    /// # Errors
    /// No answer, or no address in it.
    pub async fn v6(&self, name: &str) -> anyhow::Result<(IpAddr, u32)> {
        self.ask(name, TYPES[1]).await
    }

    async fn ask(&self, name: &str, kind: u16) -> anyhow::Result<(IpAddr, u32)> {
        let id = rand::random::<u16>();
        let question = question(id, name, kind)?;
        self.socket.send(&question).await?;
        let mut answer = [0; 512];
        let length = loop {
            let receive = self.socket.recv(&mut answer);
            let length = tokio::time::timeout(LIMIT, receive)
                .await
                .with_context(|| format!("no answer about {name}"))??;
            // An answer to an earlier question, which was given up, is passed over.
            if answer[..2] == id.to_be_bytes() {
                break length;
            }
        };
        let code = answer[3] & 15;
        ensure!(
            code == 0 && answer[6..8] != [0, 0],
            "{name}: no address, code {code}"
        );
        record(&answer[question.len()..length]).with_context(|| format!("{name}: cannot be read"))
    }
}

fn question(id: u16, name: &str, kind: u16) -> anyhow::Result<Vec<u8>> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).context("a label is short")?);
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1]);
    Ok(packet)
}

/// The first record behind the question.
fn record(mut bytes: &[u8]) -> Option<(IpAddr, u32)> {
    // The name: labels up to an empty one, or a pointer back to the question.
    loop {
        match *bytes.first()? {
            0 => break bytes = &bytes[1..],
            pointer if pointer >= 0xc0 => break bytes = bytes.get(2..)?,
            length => bytes = bytes.get(usize::from(length) + 1..)?,
        }
    }
    let ttl = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    let data = bytes.get(10..)?;
    let address = match u16::from_be_bytes(bytes.get(8..10)?.try_into().ok()?) {
        4 => IpAddr::from(<[u8; 4]>::try_from(data.get(..4)?).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(data.get(..16)?).ok()?),
        _ => return None,
    };
    Some((address, ttl))
}
