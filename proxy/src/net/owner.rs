//! Whose a connection of this host is: the kernel is asked by SOCK_DIAG (`sock_diag(7)`) for the user of the socket at its
//! other end.

use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x1;
/// `NLM_F_DUMP`.
const DUMP: u16 = 0x300;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// States in which a client's socket may be whose connection was just accepted: established, SYN sent, and both halves of
/// having said all.
const YOUNG: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// What the kernel gives at once.
const ANSWER: usize = 32 * 1024;

/// Who has opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This user, by a socket with this local address.
    User(u32, SocketAddr),
    /// Nobody any more: the socket was closed, and the kernel has forgotten whose it was.
    Gone,
    /// The kernel knows of no such socket here, or of several users' that it may be.
    Unknown,
}

/// Asks the kernel. One for the whole process.
#[derive(Debug)]
pub struct Owners {
    asking: Mutex<Asking>,
}

#[derive(Debug)]
struct Asking {
    socket: OwnedFd,
    sequence: u32,
}

/// A socket as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    local: SocketAddr,
    remote: SocketAddr,
    uid: u32,
    /// 0: no process has it any more, and `uid` means nothing.
    inode: u32,
}

impl Owners {
    /// Opens the way to the kernel and tries it. An error: this kernel cannot say.
    pub fn new() -> io::Result<Self> {
        let owners = Self {
            asking: Mutex::new(Asking {
                socket: open()?,
                sequence: 0,
            }),
        };
        let nobody = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        owners.exact(nobody, nobody)?;
        Ok(owners)
    }

    /// Who has the socket with just these addresses.
    pub fn exact(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<Owner> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let found = asking.one(canonical(local), canonical(remote))?;
        Ok(match found {
            Some(shown) if shown.inode == 0 => Owner::Gone,
            Some(shown) => Owner::User(shown.uid, shown.local),
            None => Owner::Unknown,
        })
    }

    /// Who has opened a connection that came from `local` and was going to `remote` before it was redirected.
    ///
    /// Two sockets with one port that were going to different places come to the same listener by the same addresses, so the
    /// kernel gives the later another source port on its way (an implicit source translation). Then all sockets that were
    /// going to `remote` are looked at. `taken` are those whose connections have been accepted already.
    pub fn redirected(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        taken: impl Fn(SocketAddr) -> bool,
    ) -> io::Result<Owner> {
        let (local, remote) = (canonical(local), canonical(remote));
        match self.exact(local, remote)? {
            Owner::Unknown => {}
            known => return Ok(known),
        }
        // A v6 socket may speak v4.
        let families: &[AddressFamily] = match local {
            SocketAddr::V4(_) => &[AddressFamily::INET, AddressFamily::INET6],
            SocketAddr::V6(_) => &[AddressFamily::INET6],
        };
        let mut candidates = Vec::new();
        for family in families {
            candidates.extend(all(*family, remote)?);
        }
        candidates.retain(|shown| {
            shown.inode != 0 && shown.local.ip() == local.ip() && !taken(shown.local)
        });
        let users: BTreeSet<u32> = candidates.iter().map(|shown| shown.uid).collect();
        match (candidates.first(), users.len()) {
            (Some(shown), 1) => Ok(Owner::User(shown.uid, shown.local)),
            _ => Ok(Owner::Unknown),
        }
    }
}

impl Asking {
    /// The kernel answers within the call that asks, so nothing is waited for.
    fn one(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Shown>> {
        self.sequence = self.sequence.wrapping_add(1);
        let family = family(remote);
        send(
            &self.socket,
            &request(family, REQUEST, self.sequence, local, remote),
        )?;
        let mut buffer = [0; 512];
        loop {
            let (_, length) = recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT)?;
            for (kind, sequence, body) in messages(&buffer[..length]) {
                // What was left of a question that broke off.
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    BY_FAMILY => {
                        // Where there is no such socket the kernel looks for one that listens at `local`.
                        return Ok(shown(body).filter(|shown| shown.remote == remote));
                    }
                    ERROR => return failed(body).map(|()| None),
                    _ => {}
                }
            }
        }
    }
}

/// All young sockets of a family that are going to `remote`. A walk through the kernel's table: for few connections.
fn all(family: AddressFamily, remote: SocketAddr) -> io::Result<Vec<Shown>> {
    // A socket of its own: an answer that is not read to its end is no other question's.
    let socket = open()?;
    let anything = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let wanted = SocketAddr::new(anything.ip(), remote.port());
    send(
        &socket,
        &request(family, REQUEST | DUMP, 1, anything, wanted),
    )?;
    let mut found = Vec::new();
    let mut buffer = vec![0; ANSWER];
    loop {
        let (_, length) = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
        for (kind, _, body) in messages(&buffer[..length]) {
            match kind {
                BY_FAMILY => found.extend(shown(body).filter(|shown| shown.remote == remote)),
                DONE => return Ok(found),
                ERROR => return failed(body).map(|()| found),
                _ => {}
            }
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let kind = (SocketType::DGRAM, SocketFlags::CLOEXEC);
    Ok(socket_with(
        AddressFamily::NETLINK,
        kind.0,
        kind.1,
        Some(SOCK_DIAG),
    )?)
}

fn send(socket: &OwnedFd, request: &[u8]) -> io::Result<()> {
    sendto(
        socket,
        request,
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    Ok(())
}

fn family(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

/// A v4 address that a v6 socket shows as its own kind is one of v4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2`.
fn request(
    family: AddressFamily,
    flags: u16,
    sequence: u32,
    local: SocketAddr,
    remote: SocketAddr,
) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEADER + 56);
    // The address families' numbers are below 256.
    body.extend([family.as_raw().to_le_bytes()[0], TCP, 0, 0]);
    body.extend(YOUNG.to_ne_bytes());
    body.extend(local.port().to_be_bytes());
    body.extend(remote.port().to_be_bytes());
    body.extend(words(local.ip()));
    body.extend(words(remote.ip()));
    // Any interface, and no cookie.
    body.extend(0_u32.to_ne_bytes());
    body.extend([0xff; 8]);
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

fn words(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut words = [0; 16];
            words[..4].copy_from_slice(&v4.octets());
            words
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The messages in an answer: kind, sequence number and body of each.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let sequence = u32_at(bytes, 8)?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, body))
    })
}

/// An error's number is negative. There being no such socket is none.
fn failed(body: &[u8]) -> io::Result<()> {
    let number = u32_at(body, 0).map_or(0, u32::cast_signed);
    match Errno::from_raw_os_error(number.saturating_neg()) {
        Errno::NOENT => Ok(()),
        error => Err(error.into()),
    }
}

/// `struct inet_diag_msg`.
fn shown(body: &[u8]) -> Option<Shown> {
    let body = body.get(..MESSAGE)?;
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| {
        let bytes: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
        let [a, b, c, d, ..] = bytes;
        Some(if u16::from(body[0]) == AddressFamily::INET.as_raw() {
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        } else {
            Ipv6Addr::from(bytes).to_canonical()
        })
    };
    Some(Shown {
        local: SocketAddr::new(address(8)?, port(4)?),
        remote: SocketAddr::new(address(24)?, port(6)?),
        uid: u32_at(body, 64)?,
        inode: u32_at(body, 68)?,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// A connection and its accepted end.
    fn pair(listen: &str, call: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((call, port)).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn ends(client: &TcpStream) -> (SocketAddr, SocketAddr) {
        (client.local_addr().unwrap(), client.peer_addr().unwrap())
    }

    #[test]
    fn a_connection_is_its_users() {
        let owners = Owners::new().unwrap();
        for (listen, call) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            let (client, _server) = pair(listen, call);
            let (local, remote) = ends(&client);
            let expected = Owner::User(own(), local);
            assert_eq!(owners.exact(local, remote).unwrap(), expected, "{call}");
        }
    }

    #[test]
    fn a_v4_connection_of_a_v6_socket_is_its_users() {
        let owners = Owners::new().unwrap();
        let (client, server) = pair("127.0.0.1:0", "::ffff:127.0.0.1");
        let (local, remote) = (server.peer_addr().unwrap(), server.local_addr().unwrap());
        let expected = Owner::User(own(), local);
        assert_eq!(owners.exact(local, remote).unwrap(), expected);
        let wrong = SocketAddr::new(local.ip(), 1);
        let found = owners.redirected(wrong, remote, |_| false).unwrap();
        assert_eq!(found, expected);
        drop(client);
    }

    #[test]
    fn a_socket_that_was_closed_is_nobodys() {
        let owners = Owners::new().unwrap();
        let (client, server) = pair("127.0.0.1:0", "127.0.0.1");
        let (local, remote) = ends(&client);
        drop(client);
        assert_eq!(owners.exact(local, remote).unwrap(), Owner::Gone);
        drop(server);
    }

    #[test]
    fn a_socket_that_listens_is_not_taken_for_one_that_calls() {
        let owners = Owners::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let nowhere = SocketAddr::new(address.ip(), 1);
        assert_eq!(owners.exact(address, nowhere).unwrap(), Owner::Unknown);
    }

    #[test]
    fn a_source_port_that_was_changed_on_the_way_is_found_by_the_destination() {
        let owners = Owners::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let first = TcpStream::connect(remote).unwrap();
        let second = TcpStream::connect(remote).unwrap();
        let [known, wanted] = [&first, &second].map(|stream| stream.local_addr().unwrap());
        let came_from = SocketAddr::new(known.ip(), 1);
        let found = owners.redirected(came_from, remote, |one| one == known);
        assert_eq!(found.unwrap(), Owner::User(own(), wanted));
    }
}
