//! `Workload`: a program on a host. Its labels join those of the registered instance of the same name.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{AppProtocol, Kind, Object, Spec, is_default};

/// A workload.
pub type Workload = Object<WorkloadSpec>;

/// What a `Workload` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    /// Where it is reached, in plain text, while no sidecar has registered it. Empty: only through its sidecar.
    #[serde(default, skip_serializing_if = "is_default")]
    pub addresses: Vec<IpAddr>,
    /// What it listens on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<WorkloadPort>,
    /// The identity's last part; `default` where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service_account: Option<String>,
    /// `<region>` or `<region>/<zone>`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub locality: String,
    /// Explicit listeners: where its sidecar listens for calls to services.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upstreams: Vec<Upstream>,
}

impl Spec for WorkloadSpec {
    const KIND: Kind = Kind::Workload;
}

/// A port of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadPort {
    /// What a service's `targetPort` may name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// Its number.
    pub port: u16,
    /// What is spoken; by detection where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub app_protocol: Option<AppProtocol>,
}

/// An explicit listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// A loopback address of the host, and a port.
    pub listen: SocketAddr,
    /// Where it leads.
    pub service: UpstreamService,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamService {
    /// The service's name.
    pub name: String,
    /// The workload's own where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespace: Option<String>,
    /// A port of that service.
    pub port: u16,
}
