//! What stands behind the proxy: the workload and its ports.

use super::JoinToken;
use super::fields::Fields;
use super::health::HealthCheck;
use super::hosted::Form;
use super::users::Users;
use super::values::{Account, Label, Protocol};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

const PORT: RangeInclusive<u64> = 1..=65_535;

/// A workload that this proxy stands beside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Must be the namespace of the identity.
    pub namespace: Label,
    /// Unique within the namespace.
    pub name: Label,
    /// What the identity's must be. None: what the join token or the stored certificate says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<Account>,
    /// Whose connections are this workload's, where the host has several.
    #[serde(skip_serializing_if = "Users::is_empty")]
    pub users: Users,
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

/// A workload, and what stands with it where the host has several.
pub(super) struct Read {
    pub(super) workload: Workload,
    pub(super) join_token: Option<JoinToken>,
    pub(super) data_directory: Option<PathBuf>,
}

impl Workload {
    pub(super) fn read(mut fields: Fields<'_>, form: Form) -> Option<Read> {
        for required in ["namespace", "name", "addresses"] {
            if !fields.has(required) {
                fields.problem(required, "is missing");
            }
        }
        let namespace = fields.text("namespace");
        let name = fields.text("name");
        let service_account = fields.text("serviceAccount");
        let (users, join_token, data_directory) = match form {
            Form::One => Default::default(),
            Form::Several => (
                Users::read(&mut fields),
                super::read_join_token(&mut fields),
                fields.text("dataDir"),
            ),
        };
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
        let workload = Self {
            namespace: namespace?,
            name: name?,
            service_account,
            users,
            labels,
            addresses: addresses?,
            locality,
            ports,
        };
        Some(Read {
            workload,
            join_token,
            data_directory,
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
