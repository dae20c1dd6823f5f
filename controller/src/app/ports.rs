//! Taking all ports before anything else happens: a port in use is found before the data directory is touched.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::TcpListener;

use super::Failure;
use crate::config::Listen;

/// Connections that the kernel holds while a burst is being accepted.
const BACKLOG: i32 = 1024;

/// The sockets, bound.
pub(super) struct Ports {
    pub(super) xds: TcpListener,
    pub(super) peers: std::net::TcpListener,
    pub(super) admin: TcpListener,
    pub(super) health: TcpListener,
}

impl Ports {
    pub(super) fn take(listen: &Listen) -> Result<Self, Failure> {
        Ok(Self {
            xds: take("xds", listen.xds)?,
            peers: taken("peers", listen.peers)?,
            admin: take("admin", listen.admin)?,
            health: take("health", listen.health)?,
        })
    }
}

fn take(name: &'static str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let socket = taken(name, address)?;
    TcpListener::from_std(socket).map_err(|source| refused(name, address, source))
}

/// The peer port's runtime is Raft's own, so it is handed over as it is.
fn taken(name: &'static str, address: SocketAddr) -> Result<std::net::TcpListener, Failure> {
    bind(address).map_err(|source| refused(name, address, source))
}

fn refused(name: &'static str, address: SocketAddr, source: io::Error) -> Failure {
    let remedy = match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has the port: stop it (`ss -tlnp` shows which), or choose another port in the configuration"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this host has the address: correct it in the configuration"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or choose a higher port"
        }
        _ => "correct it in the configuration",
    };
    Failure::Port {
        name,
        address,
        remedy,
        source,
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // `[::]` means every address, v4 too.
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_field_and_the_remedy() {
        let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = take("xds", held.local_addr().unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("listen.xds") && refused.contains("ss -tlnp"),
            "{refused}"
        );
    }
}
