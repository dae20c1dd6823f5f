//! `MeshSettings`: what holds for the whole mesh. There is one, named `default`.

use std::collections::BTreeMap;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{Duration, Kind, Object, Spec, is_default, traffic_policy};

/// The mesh's settings.
pub type MeshSettings = Object<MeshSettingsSpec>;

/// The one name that `MeshSettings` may have.
pub const SETTINGS_NAME: &str = "default";
/// The namespace in which the one `MeshSettings` is kept.
pub const SETTINGS_NAMESPACE: &str = "maille-system";

/// What `MeshSettings` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshSettingsSpec {
    /// Whether plain text is accepted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mtls: Mtls,
    /// Where virtual IPs come from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub vip_range: VipRange,
    /// What holds where no `TrafficPolicy` says otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub defaults: Defaults,
    /// Certificates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub identity: IdentitySettings,
    /// Names.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dns: DnsSettings,
}

impl Spec for MeshSettingsSpec {
    const KIND: Kind = Kind::MeshSettings;
}

/// Whether plain text is accepted, and where that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mtls {
    /// For all that no override names.
    #[serde(default)]
    pub mode: MtlsMode,
    /// The most exact one wins: port over workload over namespace; among equals the first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overrides: Vec<MtlsOverride>,
}

/// Whether plain text is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MtlsMode {
    /// Mutual TLS from the mesh, plain text from elsewhere.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// A part of the mesh with a mode of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MtlsOverride {
    /// The namespace.
    pub namespace: String,
    /// Workloads in it by labels; all where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub match_labels: BTreeMap<String, String>,
    /// Ports of them; all where it is empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<u16>,
    /// What holds there.
    pub mode: MtlsMode,
}

/// Where virtual IPs come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VipRange {
    /// 240.0.0.0/4 where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub v4: Option<Ipv4Net>,
    /// A /64 within fd00::/8 where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub v6: Option<Ipv6Net>,
}

/// What holds where no `TrafficPolicy` says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// As in `TrafficPolicy`; none where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout: Option<Duration>,
    /// As in `TrafficPolicy`; 1s where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connect_timeout: Option<Duration>,
    /// As in `TrafficPolicy`; `peakEwma` where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub balancer: Option<traffic_policy::Balancer>,
    /// As in `TrafficPolicy`; off where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Option<traffic_policy::Retries>,
    /// As in `TrafficPolicy`; off where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ejection: Option<traffic_policy::Ejection>,
    /// As in `TrafficPolicy`; none where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Option<traffic_policy::Limits>,
}

/// Certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentitySettings {
    /// How long a workload's certificate lives; 24h where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub leaf_lifetime: Option<Duration>,
}

/// Names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsSettings {
    /// How long a resolver may keep an answer; 5s where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ttl: Option<Duration>,
}
