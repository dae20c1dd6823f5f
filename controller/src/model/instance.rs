//! A registered sidecar: where a workload is, what it listens on and how healthy that is.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Name, Source};

/// How the bytes of a port are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
#[expect(missing_docs, reason = "said by their names")]
pub enum Protocol {
    Detect = 0,
    Http1 = 1,
    Http2 = 2,
    Grpc = 3,
    Tcp = 4,
    Tls = 5,
}

/// How a workload is reached through the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
#[expect(missing_docs, reason = "said by their names")]
pub enum MeshMode {
    None = 0,
    Native = 1,
    Envoy = 2,
    Grpc = 3,
}

/// What the sidecar found out about its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Health {
    /// Not known yet: gets no traffic.
    Unknown = 0,
    /// Gets traffic.
    Healthy = 1,
    /// Gets none.
    Unhealthy = 2,
}

/// A registered sidecar with its workload.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Instance {
    /// The workload's name; unique in its namespace.
    #[prost(message, required, tag = "1")]
    pub name: Name,
    /// Textual addresses, v4 or v6; `apply` refuses others.
    #[prost(string, repeated, tag = "2")]
    pub addresses: Vec<String>,
    /// What the sidecar says of itself. A `Workload` of the same name wins where both name a key.
    #[prost(btree_map = "string, string", tag = "3")]
    pub labels: BTreeMap<String, String>,
    /// What it listens on.
    #[prost(message, repeated, tag = "4")]
    pub ports: Vec<InstancePort>,
    /// How it is reached.
    #[prost(enumeration = "MeshMode", tag = "5")]
    pub mesh: i32,
    /// Where its sidecar takes mesh connections.
    #[prost(uint32, tag = "6")]
    pub mesh_port: u32,
    /// `<region>/<zone>`, may be empty.
    #[prost(string, tag = "7")]
    pub locality: String,
    /// The SPIFFE id that it proved when it registered.
    #[prost(string, tag = "8")]
    pub identity: String,
    /// Drawn at the sidecar's start: a newer process takes the name over, an older one cannot take it back.
    #[prost(uint64, tag = "9")]
    pub generation: u64,
    /// Where the Envoy beside it listens.
    #[prost(message, optional, tag = "10")]
    pub envoy: Option<EnvoyListeners>,
    /// For a pod: how its ports are that are not listed, for a pod may listen on any. Absent: there are none.
    #[prost(enumeration = "Health", optional, tag = "11")]
    pub other_ports: Option<i32>,
    /// Set: it is a pod, and Kubernetes says what it is. Absent: its sidecar registered it.
    #[prost(message, optional, tag = "12")]
    pub source: Option<Source>,
}

/// What an Envoy binds, `<ip>:<port>` each.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EnvoyListeners {
    /// Mesh TLS, and connections redirected from the workload's own ports.
    #[prost(string, repeated, tag = "1")]
    pub mesh: Vec<String>,
    /// Redirected connections of the workload's own; empty where there is no redirection.
    #[prost(string, repeated, tag = "2")]
    pub outbound: Vec<String>,
}

impl Instance {
    /// Its addresses, in the order in which it gave them.
    pub fn ip_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses
            .iter()
            .filter_map(|address| address.parse().ok())
    }

    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&InstancePort> {
        self.ports
            .iter()
            .find(|port| port.port == u32::from(number))
    }

    /// How the port with this number is; none where it is not served.
    pub fn health_of(&self, number: u16) -> Option<Health> {
        let listed = self.port(number).map(InstancePort::health);
        listed.or_else(|| self.other_ports.is_some().then(|| self.other_ports()))
    }
}

/// A port of an instance.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InstancePort {
    /// May be empty.
    #[prost(string, tag = "1")]
    pub name: String,
    /// 1 to 65535; `apply` refuses others.
    #[prost(uint32, tag = "2")]
    pub port: u32,
    /// What is spoken.
    #[prost(enumeration = "Protocol", tag = "3")]
    pub protocol: i32,
    /// As last reported.
    #[prost(enumeration = "Health", tag = "4")]
    pub health: i32,
    /// Where the application listens, for the Envoy beside it; empty: at the port on 127.0.0.1.
    #[prost(string, tag = "5")]
    pub application: String,
}
