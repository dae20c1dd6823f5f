//! The names of resources.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use xds_api::type_url::TypeUrl;

use crate::model::Name;

/// One port of a service: what routes, clusters and endpoints are named after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServicePort {
    pub(crate) service: Name,
    pub(crate) port: u16,
}

impl ServicePort {
    pub(crate) fn new(namespace: &str, service: &str, port: u16) -> Self {
        Self {
            service: Name::new(namespace, service),
            port,
        }
    }

    /// Reads `<namespace>/<service>:<port>`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (namespace, rest) = text.split_once('/')?;
        let (service, port) = rest.rsplit_once(':')?;
        let port = parse_port(port)?;
        (!namespace.is_empty() && !service.is_empty() && !service.contains('/'))
            .then(|| Self::new(namespace, service, port))
    }

    /// `<namespace>/<service>:<port>`, as a resource name.
    pub(crate) fn resource(&self) -> Arc<str> {
        self.to_string().into()
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

/// What the names of services end in where they are names of hosts.
const MESH_DOMAIN: &str = ".mesh";

/// What a listener's name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenerName {
    /// `in/<namespace>/<workload>`.
    Inbound(Name),
    /// `out/<ip>:<port>`.
    Address(SocketAddr),
    /// `out/<service>.<namespace>:<port>`.
    Port(ServicePort),
    /// `host/<service>.<namespace>`.
    Host(Name),
    /// `outbound/<namespace>/<workload>`: what an Envoy's redirected connections arrive at.
    Outbound(Name),
    /// `up/<namespace>/<workload>/<ip>:<port>`: an explicit listener of an Envoy.
    Upstream(Name, SocketAddr),
    /// `<service>.<namespace>.mesh:<port>`: what a gRPC program calls.
    Target(ServicePort),
    /// `serve/<namespace>/<workload>/<ip>:<port>`: what a gRPC server is bound to.
    Serving(Name, SocketAddr),
}

impl ListenerName {
    /// Reads a listener's name; only the one spelling that is written here is one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (form, rest) = text.split_once('/').unwrap_or(("", text));
        let read = match form {
            "" => {
                let (host, port) = rest.rsplit_once(':')?;
                Self::Target(ServicePort {
                    service: parse_host(host.strip_suffix(MESH_DOMAIN)?)?,
                    port: parse_port(port)?,
                })
            }
            "in" => {
                let (namespace, workload) = rest.split_once('/')?;
                Self::Inbound(Name::new(namespace, workload))
            }
            "host" => Self::Host(parse_host(rest)?),
            "outbound" => {
                let (namespace, workload) = rest.split_once('/')?;
                Self::Outbound(Name::new(namespace, workload))
            }
            "up" | "serve" => {
                let (workload, listen) = rest.rsplit_once('/')?;
                let (namespace, workload) = workload.split_once('/')?;
                let (workload, listen) = (Name::new(namespace, workload), listen.parse().ok()?);
                match form {
                    "up" => Self::Upstream(workload, listen),
                    _ => Self::Serving(workload, listen),
                }
            }
            "out" => match rest.parse::<SocketAddr>() {
                Ok(address) => Self::Address(address),
                Err(_) => {
                    let (host, port) = rest.rsplit_once(':')?;
                    Self::Port(ServicePort {
                        service: parse_host(host)?,
                        port: parse_port(port)?,
                    })
                }
            },
            _ => return None,
        };
        (*read.resource() == *text).then_some(read)
    }

    /// The name.
    pub(crate) fn resource(&self) -> Arc<str> {
        match self {
            Self::Inbound(workload) => format!("in/{workload}"),
            Self::Address(address) => format!("out/{address}"),
            Self::Port(ServicePort { service, port }) => {
                format!("out/{}.{}:{port}", service.name, service.namespace)
            }
            Self::Host(service) => format!("host/{}.{}", service.name, service.namespace),
            Self::Outbound(workload) => format!("outbound/{workload}"),
            Self::Upstream(workload, listen) => format!("up/{workload}/{listen}"),
            Self::Target(ServicePort { service, port }) => {
                format!("{}.{}{MESH_DOMAIN}:{port}", service.name, service.namespace)
            }
            Self::Serving(workload, listen) => format!("serve/{workload}/{listen}"),
        }
        .into()
    }
}

/// The workload whose own a resource is; `None` where it is everybody's.
pub(crate) fn owner(kind: TypeUrl, name: &str) -> Option<Name> {
    match kind {
        TypeUrl::Listener => match ListenerName::parse(name)? {
            ListenerName::Inbound(workload)
            | ListenerName::Outbound(workload)
            | ListenerName::Upstream(workload, _)
            | ListenerName::Serving(workload, _) => Some(workload),
            _ => None,
        },
        TypeUrl::Cluster => Application::parse(name).map(|application| application.workload),
        TypeUrl::Extension => Some(Authorization::parse(name)?.workload),
        TypeUrl::Secret => Callers::parse(name).map(|callers| callers.workload),
        TypeUrl::Endpoints | TypeUrl::Route => None,
    }
}

/// `app/<namespace>/<workload>:<port>`: the cluster of an Envoy's own application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Application {
    pub(crate) workload: Name,
    pub(crate) port: u16,
}

impl Application {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let port = ServicePort::parse(text.strip_prefix("app/")?)?;
        Some(Self {
            workload: port.service,
            port: port.port,
        })
    }
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "app/{}:{}", self.workload, self.port)
    }
}

/// `authz/<namespace>/<workload>:<port>/<http or tcp>/<deny or allow>`: half of the rules of an Envoy's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authorization {
    pub(crate) workload: Name,
    pub(crate) port: u16,
    pub(crate) is_http: bool,
    pub(crate) denies: bool,
}

impl Authorization {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (port, form) = text.strip_prefix("authz/")?.split_once(':')?;
        let (number, form) = form.split_once('/')?;
        let port = ServicePort::parse(&format!("{port}:{number}"))?;
        let (is_http, denies) = match form {
            "http/deny" => (true, true),
            "http/allow" => (true, false),
            "tcp/deny" => (false, true),
            "tcp/allow" => (false, false),
            _ => return None,
        };
        Some(Self {
            workload: port.service,
            port: port.port,
            is_http,
            denies,
        })
    }
}

impl fmt::Display for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = if self.is_http { "http" } else { "tcp" };
        let half = if self.denies { "deny" } else { "allow" };
        write!(f, "authz/{}:{}/{layer}/{half}", self.workload, self.port)
    }
}

/// `callers/<namespace>/<workload>:<port>`: whom an Envoy's port takes opaque connections from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Callers {
    pub(crate) workload: Name,
    pub(crate) port: u16,
}

impl Callers {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let port = ServicePort::parse(text.strip_prefix("callers/")?)?;
        Some(Self {
            workload: port.service,
            port: port.port,
        })
    }
}

impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "callers/{}:{}", self.workload, self.port)
    }
}

/// The name of the roots and the identities behind a service, for an Envoy that calls it.
pub(crate) fn peers(service: &Name) -> Arc<str> {
    format!("peers/{service}").into()
}

fn parse_host(text: &str) -> Option<Name> {
    let (service, namespace) = text.split_once('.')?;
    let label = |part: &str| !part.is_empty() && !part.contains(['.', '/', ':']);
    (label(service) && label(namespace)).then(|| Name::new(namespace, service))
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if digits { text.parse().ok() } else { None }
}

/// The name under which the roots of a trust domain are served.
pub(crate) fn roots(trust_domain: &str) -> Arc<str> {
    format!("roots/{trust_domain}").into()
}

/// What the names of a service's routes, clusters and endpoints begin with.
pub(crate) fn service_prefix(service: &Name) -> String {
    format!("{service}:")
}

/// What the names of a service's explicit listeners begin with.
pub(crate) fn port_prefix(service: &Name) -> String {
    format!("out/{}.{}:", service.name, service.namespace)
}

/// What a service's names for gRPC programs begin with.
pub(crate) fn target_prefix(service: &Name) -> String {
    format!("{}.{}{MESH_DOMAIN}:", service.name, service.namespace)
}

/// What the names of the listeners at an address begin with.
pub(crate) fn address_prefix(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("out/{address}:"),
        IpAddr::V6(address) => format!("out/[{address}]:"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_listener_is_read_as_it_is_written() {
        let check =
            |text: &str, expected| assert_eq!(ListenerName::parse(text), expected, "{text}");
        check(
            "in/shop/web-1",
            Some(ListenerName::Inbound(Name::new("shop", "web-1"))),
        );
        check(
            "host/web.shop",
            Some(ListenerName::Host(Name::new("shop", "web"))),
        );
        let port = ServicePort::new("shop", "web", 80);
        check("out/web.shop:80", Some(ListenerName::Port(port.clone())));
        check(
            "out/240.0.0.1:80",
            Some(ListenerName::Address("240.0.0.1:80".parse().unwrap())),
        );
        check(
            "out/[fd00::1]:80",
            Some(ListenerName::Address("[fd00::1]:80".parse().unwrap())),
        );
        check("web.shop.mesh:80", Some(ListenerName::Target(port.clone())));
        for at in ["0.0.0.0:8080", "[::]:8080"] {
            let serving = ListenerName::Serving(Name::new("shop", "web-1"), at.parse().unwrap());
            check(&format!("serve/shop/web-1/{at}"), Some(serving));
        }
        for wrong in [
            "",
            "web.shop.mesh",
            "web.shop:80",
            "/web.shop.mesh:80",
            "serve/shop/0.0.0.0:8080",
            "serve/shop/web-1/localhost:8080",
            "in",
            "in/",
            "in/shop",
            "host/web",
            "host/web.shop.mesh",
            "out/web.shop",
            "out/web:80",
            "out/web.shop:080",
            "out/web.shop:70000",
            "out/[FD00::1]:80",
            "out/[fd00:0::1]:80",
            "*",
            "x/y",
        ] {
            check(wrong, None);
        }
        assert_eq!(ServicePort::parse("shop/web:80"), Some(port));
        for wrong in [
            "",
            "web:80",
            "shop/web",
            "shop/web:",
            "/web:80",
            "shop/:80",
            "a/b/c:80",
        ] {
            assert_eq!(ServicePort::parse(wrong), None, "{wrong}");
        }
    }
}
