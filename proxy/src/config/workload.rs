//! What stands behind the proxy: the workload, its ports and how their health is checked.

use super::fields::Fields;
use super::values::{Label, Protocol, span};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Shorter would be load, longer would not notice.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
/// More checks than these would damp a failure away.
const CHECKS: RangeInclusive<u64> = 1..=20;
const PORT: RangeInclusive<u64> = 1..=65_535;

/// The workload that this proxy stands beside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Must be the namespace of the identity.
    pub namespace: Label,
    /// Unique within the namespace.
    pub name: Label,
    /// What Services select by.
    pub labels: BTreeMap<String, String>,
    /// Where other hosts reach it.
    pub addresses: Vec<IpAddr>,
    /// `<region>/<zone>`, may be empty.
    pub locality: String,
    /// What the application serves. Empty: a pure client.
    pub ports: Vec<Port>,
}

/// One port of the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// May be empty.
    pub name: String,
    /// The port by which the mesh names it.
    pub port: u16,
    /// What its bytes are.
    pub protocol: Protocol,
    /// Where the application listens. None: the original destination, or `127.0.0.1:<port>`.
    pub application: Option<SocketAddr>,
    /// None: taken as healthy while the proxy runs.
    pub health: Option<HealthCheck>,
}

/// How a port's health is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// What is asked.
    #[serde(flatten)]
    pub probe: Probe,
    /// From the end of one check to the next; at most a second while the application does not serve.
    #[serde(serialize_with = "span")]
    pub interval: Duration,
    /// How long one check may take.
    #[serde(serialize_with = "span")]
    pub timeout: Duration,
    /// Successes in a row until it counts as healthy.
    pub healthy_after: u32,
    /// Failures in a row until it counts as unhealthy.
    pub unhealthy_after: u32,
}

/// One health question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A connection is accepted.
    Tcp {},
    /// `GET path` is answered with 200 to 399.
    Http {
        /// Begins with `/`.
        path: String,
    },
}

impl Workload {
    pub(super) fn read(mut fields: Fields<'_>) -> Option<Self> {
        for required in ["namespace", "name", "addresses"] {
            if !fields.has(required) {
                fields.problem(required, "is missing");
            }
        }
        let namespace = fields.text("namespace");
        let name = fields.text("name");
        let labels = fields.labels("labels").into_iter().collect();
        let addresses: Option<Vec<IpAddr>> = fields.texts("addresses");
        if addresses.as_ref().is_some_and(Vec::is_empty) {
            fields.problem("addresses", "must name at least one address");
        }
        let locality = fields.text::<String>("locality").unwrap_or_default();
        let ports = fields.mappings("ports").into_iter().filter_map(Port::read);
        let ports: Vec<Port> = ports.collect();
        check_ports(&fields, &ports);
        fields.finish();
        Some(Self {
            namespace: namespace?,
            name: name?,
            labels,
            addresses: addresses?,
            locality,
            ports,
        })
    }

    /// `<namespace>/<name>`, as the control plane names the node.
    pub fn node(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn check_ports(fields: &Fields<'_>, ports: &[Port]) {
    let mut numbers = BTreeSet::new();
    let mut names = BTreeSet::new();
    for port in ports {
        if !numbers.insert(port.port) {
            fields.problem("ports", format!("port {} stands twice", port.port));
        }
        if !port.name.is_empty() && !names.insert(&port.name) {
            fields.problem("ports", format!("name {:?} stands twice", port.name));
        }
    }
}

impl Port {
    fn read(mut fields: Fields<'_>) -> Option<Self> {
        if !fields.has("port") {
            fields.problem("port", "is missing");
        }
        let name = fields.text::<String>("name").unwrap_or_default();
        let port = fields.number("port", PORT);
        let protocol = fields.text("protocol").unwrap_or_default();
        let application = fields.text("application");
        let health = fields.has("health");
        let health = HealthCheck::read(fields.mapping("health")).filter(|_| health);
        fields.finish();
        Some(Self {
            name,
            port: u16::try_from(port?).ok()?,
            protocol,
            application,
            health,
        })
    }
}

impl HealthCheck {
    /// Reads an absent mapping as a TCP check with defaults; the caller drops that.
    fn read(mut fields: Fields<'_>) -> Option<Self> {
        let (http, tcp) = (fields.has("http"), fields.has("tcp"));
        if http && tcp {
            fields.problem("http", "cannot stand beside tcp; keep one");
        }
        fields.mapping("tcp").finish();
        let mut inner = fields.mapping("http");
        let path = inner.text::<String>("path").unwrap_or_else(|| "/".into());
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            inner.problem(
                "path",
                format!("{path:?}: must begin with / and be plain ASCII"),
            );
        }
        inner.finish();
        let interval = fields.duration("interval", INTERVAL);
        let interval = interval.unwrap_or(Duration::from_secs(5));
        let timeout = fields.duration("timeout", TIMEOUT);
        let timeout = timeout.unwrap_or(interval.min(Duration::from_secs(1)));
        let healthy_after = fields.number("healthyAfter", CHECKS).unwrap_or(1);
        let unhealthy_after = fields.number("unhealthyAfter", CHECKS).unwrap_or(3);
        fields.finish();
        let probe = match http {
            true => Probe::Http { path },
            false => Probe::Tcp {},
        };
        Some(Self {
            probe,
            interval,
            timeout,
            healthy_after: u32::try_from(healthy_after).ok()?,
            unhealthy_after: u32::try_from(unhealthy_after).ok()?,
        })
    }
}
