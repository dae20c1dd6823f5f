//! What stands behind the proxy: the workload and its ports.

use super::fields::Fields;
use super::health::HealthCheck;
use super::values::{Label, Protocol};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

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
