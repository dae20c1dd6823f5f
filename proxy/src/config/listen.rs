//! Where the proxy listens. Every address can be set, so that several sidecars can share a host.

use super::fields::Fields;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Outgoing connections, redirected or explicit.
pub(super) const OUTBOUND_PORT: u16 = 4740;
/// Mesh TLS from other proxies, and redirected incoming connections.
pub(super) const MESH_PORT: u16 = 4743;
/// DNS.
pub(super) const DNS_PORT: u16 = 4753;
/// Administration, loopback only.
pub(super) const ADMIN_PORT: u16 = 4790;
/// Readiness and metrics, every address.
pub(super) const METRICS_PORT: u16 = 4791;

/// One address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// What to bind.
    pub address: SocketAddr,
    /// False for the v6 half of a default: a host without IPv6 goes without it.
    pub required: bool,
}

impl Serialize for Bind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.address)
    }
}

/// Every address that the proxy listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listen {
    /// Connections that leave the application by redirection. Empty: there is no redirection.
    pub outbound: Vec<Bind>,
    /// Mesh TLS, and connections redirected from the application's own ports.
    pub mesh: Vec<Bind>,
    /// DNS over UDP and TCP. Empty: no DNS.
    pub dns: Vec<Bind>,
    /// Administration.
    pub admin: SocketAddr,
    /// `/ready`, `/live`, `/metrics`.
    pub metrics: Vec<Bind>,
}

impl Listen {
    pub(super) fn read(mut fields: Fields<'_>) -> Self {
        let outbound = binds(&mut fields, "outbound", loopback(OUTBOUND_PORT));
        let mesh = binds(&mut fields, "mesh", everywhere(MESH_PORT));
        let dns = binds(&mut fields, "dns", loopback(DNS_PORT));
        let metrics = binds(&mut fields, "metrics", everywhere(METRICS_PORT));
        let admin = fields.text("admin");
        let admin = admin.unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ADMIN_PORT));
        let listen = Self {
            outbound,
            mesh,
            dns,
            admin,
            metrics,
        };
        listen.check(&fields);
        fields.finish();
        listen
    }

    fn check(&self, fields: &Fields<'_>) {
        if !self.admin.ip().is_loopback() {
            let text = format!("{}: must be a loopback address", self.admin);
            fields.problem("admin", text);
        }
        let admin = [Bind {
            address: self.admin,
            required: true,
        }];
        let all = [
            ("outbound", &self.outbound[..]),
            ("mesh", &self.mesh),
            ("dns", &self.dns),
            ("admin", &admin),
            ("metrics", &self.metrics),
        ];
        let mut taken: BTreeMap<SocketAddr, &str> = BTreeMap::new();
        for (name, binds) in all {
            for bind in binds {
                let Some(other) = taken.insert(bind.address, name) else {
                    continue;
                };
                let text = format!("{} is taken by listen.{other}", bind.address);
                fields.problem(name, text);
            }
        }
    }
}

fn binds(fields: &mut Fields<'_>, name: &'static str, default: Vec<Bind>) -> Vec<Bind> {
    let required = true;
    let bind = |address: SocketAddr| Bind { address, required };
    let Some(addresses) = fields.texts(name) else {
        return default;
    };
    let binds: Vec<Bind> = addresses.into_iter().map(bind).collect();
    for zero in binds.iter().filter(|bind| bind.address.port() == 0) {
        let text = format!("{}: the port must not be 0", zero.address);
        fields.problem(name, text);
    }
    binds
}

fn loopback(port: u16) -> Vec<Bind> {
    both(Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), port)
}

fn everywhere(port: u16) -> Vec<Bind> {
    both(
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv6Addr::UNSPECIFIED.into(),
        port,
    )
}

fn both(v4: IpAddr, v6: IpAddr, port: u16) -> Vec<Bind> {
    let bind = |ip, required| Bind {
        address: SocketAddr::new(ip, port),
        required,
    };
    vec![bind(v4, true), bind(v6, false)]
}
