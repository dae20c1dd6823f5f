//! core v1 `Service`: a name, a selector and ports. It has a virtual IP; its endpoints are what its selector matches.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{Kind, Object, Spec, is_default};

/// A service.
pub type Service = Object<ServiceSpec>;

/// What a `Service` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// Accepted because every exported Service has it; there is one type.
    #[serde(rename = "type", default, skip_serializing_if = "is_default")]
    pub service_type: ServiceType,
    /// Labels that an instance must have. Empty selects nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub selector: BTreeMap<String, String>,
    /// At least one.
    pub ports: Vec<ServicePort>,
    /// Addresses that Kubernetes gave it, beside those of the mesh. People do not write them.
    #[serde(rename = "clusterIPs", default, skip_serializing_if = "is_default")]
    pub cluster_ips: Vec<IpAddr>,
    /// Whether endpoints get traffic that are not ready; of Kubernetes' services only, too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub publish_not_ready_addresses: bool,
}

impl Spec for ServiceSpec {
    const KIND: Kind = Kind::Service;
}

impl ServiceSpec {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number)
    }
}

/// How a service is published. The mesh knows one way: a virtual IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    /// A virtual IP inside the mesh.
    #[default]
    ClusterIP,
}

/// One port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePort {
    /// May be empty where there is one port only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// What clients connect to.
    pub port: u16,
    /// What the endpoint listens on; `port` where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target_port: Option<PortRef>,
    /// What is spoken; found by detection where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub app_protocol: Option<AppProtocol>,
    /// The transport; TCP is the only one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Transport,
}

impl ServicePort {
    /// The target, with the default applied.
    pub fn target(&self) -> PortRef {
        self.target_port
            .clone()
            .unwrap_or(PortRef::Number(self.port))
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// The only one that the mesh carries.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
}

/// A port by number or by the name that the workload gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "said by the type")]
pub enum PortRef {
    Number(u16),
    Name(String),
}

/// The protocols that a port may declare; several spellings mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AppProtocol {
    /// HTTP/1.
    #[serde(rename = "http")]
    Http,
    /// HTTP/1 with an upgrade to WebSocket.
    #[serde(rename = "kubernetes.io/ws")]
    WebSocket,
    /// HTTP/2 with prior knowledge.
    #[serde(rename = "http2")]
    Http2,
    /// HTTP/2 with prior knowledge, as Kubernetes names it.
    #[serde(rename = "kubernetes.io/h2c")]
    H2c,
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// Opaque bytes, server-first protocols included.
    #[serde(rename = "tcp")]
    Tcp,
    /// The application's own TLS.
    #[serde(rename = "tls")]
    Tls,
    /// The application's own TLS.
    #[serde(rename = "https")]
    Https,
    /// The application's own TLS.
    #[serde(rename = "kubernetes.io/wss")]
    SecureWebSocket,
}

impl AppProtocol {
    /// Every spelling, for messages and the reference.
    pub const NAMES: [&str; 9] = [
        "http",
        "http2",
        "grpc",
        "tcp",
        "tls",
        "https",
        "kubernetes.io/h2c",
        "kubernetes.io/ws",
        "kubernetes.io/wss",
    ];

    /// Whether requests, and not only bytes, are seen.
    pub const fn is_http(self) -> bool {
        matches!(
            self,
            Self::Http | Self::WebSocket | Self::Http2 | Self::H2c | Self::Grpc
        )
    }
}
