//! The names of the native dialect's resources.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

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
}

impl ListenerName {
    /// Reads a listener's name; only the one spelling that is written here is one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (form, rest) = text.split_once('/')?;
        let read = match form {
            "in" => {
                let (namespace, workload) = rest.split_once('/')?;
                Self::Inbound(Name::new(namespace, workload))
            }
            "host" => Self::Host(parse_host(rest)?),
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
        }
        .into()
    }
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
        for wrong in [
            "",
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
