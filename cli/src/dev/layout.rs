//! Where everything of the demo is: in namespaces each host has addresses of its own and the default ports; on loopback each listener has a port of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use crate::args::dev::Family;
use crate::failure::{Failure, Outcome};

use super::demo::{self, NAMESPACE, Set, Target, Workload};
use super::namespaces::Host;

/// The controllers' hosts.
pub(crate) const CONTROLLERS: [(&str, Host); 3] =
    [("c1", Host(11)), ("c2", Host(12)), ("c3", Host(13))];

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    Xds,
    Peers,
    ControllerAdmin,
    Health,
    Mesh,
    Admin,
    Metrics,
    /// The administration of an Envoy, which listens on the loopback of its host.
    EnvoyAdmin,
    /// The application itself, by its port in the mesh.
    Application(u16),
    /// An explicit listener.
    Upstream(Family, Target),
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    Namespaces,
    /// Ports by host and use.
    Loopback(BTreeMap<(String, Use), u16>),
}

impl Layout {
    /// A layout on loopback, of ports that are free now.
    pub(crate) fn loopback(sets: &[Set]) -> Outcome<Layout> {
        let mut wanted = Vec::new();
        for (name, _) in CONTROLLERS {
            wanted.extend(
                [Use::Xds, Use::Peers, Use::ControllerAdmin, Use::Health]
                    .map(|usage| (name.to_string(), usage)),
            );
        }
        for workload in demo::workloads(sets) {
            let applications = workload
                .ports
                .iter()
                .map(|port| Use::Application(port.number))
                .chain([Use::Application(demo::BANNER_DIRECT)]);
            let upstreams = demo::targets(sets).into_iter().flat_map(|target| {
                [Family::V4, Family::V6].map(|family| Use::Upstream(family, target))
            });
            let uses = [Use::Mesh, Use::Admin, Use::Metrics, Use::EnvoyAdmin]
                .into_iter()
                .chain(applications)
                .chain(upstreams);
            wanted.extend(uses.map(|usage| (workload.name.to_string(), usage)));
        }
        // All are held until all are found, so that none is given twice.
        let held = wanted
            .iter()
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<Vec<_>, _>>();
        let held =
            held.map_err(|error| Failure::failed("find free ports on loopback").caused_by(error))?;
        let ports = held
            .iter()
            .map(|listener| listener.local_addr().map(|address| address.port()))
            .collect::<Result<Vec<_>, _>>();
        let ports = ports
            .map_err(|error| Failure::failed("find free ports on loopback").caused_by(error))?;
        Ok(Layout::Loopback(wanted.into_iter().zip(ports).collect()))
    }

    fn port(&self, host: &str, usage: Use) -> u16 {
        match self {
            Layout::Loopback(ports) => ports
                .get(&(host.to_string(), usage))
                .copied()
                .unwrap_or_default(),
            Layout::Namespaces => match usage {
                Use::Xds => 4700,
                Use::Peers => 4701,
                Use::ControllerAdmin => 4702,
                Use::Health => 4704,
                Use::Mesh => 4743,
                Use::Admin => 4790,
                Use::Metrics => 4791,
                Use::EnvoyAdmin => 4792,
                Use::Application(port) => port,
                Use::Upstream(_, target) => target.port,
            },
        }
    }

    /// Whether every host is a namespace.
    pub(crate) fn namespaces(&self) -> bool {
        matches!(self, Layout::Namespaces)
    }

    /// A controller's address for one use.
    pub(crate) fn controller(&self, (name, host): (&str, Host), usage: Use) -> SocketAddr {
        let ip = if self.namespaces() {
            IpAddr::V4(host.v4())
        } else {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        };
        SocketAddr::new(ip, self.port(name, usage))
    }

    /// The addresses by which others reach a workload.
    pub(crate) fn addresses(&self, workload: &Workload) -> Vec<IpAddr> {
        match self {
            Layout::Namespaces => vec![workload.host.v4().into(), workload.host.v6().into()],
            Layout::Loopback(_) => vec![Ipv4Addr::LOCALHOST.into()],
        }
    }

    /// A port of a sidecar, at an address where the hub reaches it.
    pub(crate) fn sidecar(&self, workload: &Workload, usage: Use) -> SocketAddr {
        let ip = if self.namespaces() {
            IpAddr::V4(workload.host.v4())
        } else {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        };
        SocketAddr::new(ip, self.port(workload.name, usage))
    }

    /// An Envoy's administration, for who is on its host.
    pub(crate) fn envoy_admin(&self, workload: &Workload) -> SocketAddr {
        (
            Ipv4Addr::LOCALHOST,
            self.port(workload.name, Use::EnvoyAdmin),
        )
            .into()
    }

    /// Where a workload's application listens.
    pub(crate) fn application(&self, workload: &Workload, port: u16) -> SocketAddr {
        let ip = if self.namespaces() {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        };
        SocketAddr::new(ip, self.port(workload.name, Use::Application(port)))
    }

    /// Where somebody outside the mesh calls a workload's port: past no sidecar of its own.
    pub(crate) fn outside(&self, workload: &Workload, port: u16) -> String {
        match self {
            Layout::Namespaces => format!("{}:{port}", workload.host.v4()),
            // Without redirection the way past the client's side leads to the sidecar's mesh port.
            Layout::Loopback(_) => self.sidecar(workload, Use::Mesh).to_string(),
        }
    }

    /// The banner's port that the mesh does not know.
    pub(crate) fn direct(&self) -> String {
        let banner = demo::BANNER_HOST;
        match self {
            Layout::Namespaces => format!("{}:{}", banner.host.v4(), demo::BANNER_DIRECT),
            Layout::Loopback(_) => self.application(&banner, demo::BANNER_DIRECT).to_string(),
        }
    }

    /// What a workload's application calls to reach a service: a name, or an explicit listener.
    pub(crate) fn target(&self, client: &Workload, target: Target, family: Family) -> String {
        match self {
            Layout::Namespaces => format!("{}.{NAMESPACE}.mesh:{}", target.service, target.port),
            Layout::Loopback(_) => self.listener(client, target, family),
        }
    }

    fn listener(&self, client: &Workload, target: Target, family: Family) -> String {
        let ip = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        SocketAddr::new(ip, self.port(client.name, Use::Upstream(family, target))).to_string()
    }

    /// All explicit listeners of a workload; none where there is redirection.
    pub(crate) fn listeners(&self, client: &Workload) -> Vec<(String, Target)> {
        let Layout::Loopback(ports) = self else {
            return Vec::new();
        };
        let own = ports.keys().filter(|(host, _)| host == client.name);
        own.filter_map(|(_, usage)| match usage {
            Use::Upstream(family, target) => {
                Some((self.listener(client, *target, *family), *target))
            }
            _ => None,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_of_loopback_is_given_twice() {
        let Layout::Loopback(ports) = Layout::loopback(demo::sets(true)).unwrap() else {
            panic!("not loopback")
        };
        assert_eq!(ports.values().collect::<BTreeSet<_>>().len(), ports.len());
    }

    #[test]
    fn an_application_calls_names_where_there_is_redirection() {
        let target = Layout::Namespaces.target(&demo::WEB, demo::API, Family::V6);
        assert_eq!(target, "api.demo.mesh:8080");
        let loopback = Layout::loopback(demo::sets(false)).unwrap();
        assert!(
            loopback
                .target(&demo::WEB, demo::API, Family::V6)
                .starts_with("[::1]:")
        );
        assert_eq!(
            loopback.listeners(&demo::WEB).len(),
            2 * demo::targets(demo::sets(false)).len()
        );
    }
}
