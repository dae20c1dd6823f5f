//! `TrafficPolicy`: how a service is called: balancing, retries, time, ejection, limits.

use serde::{Deserialize, Serialize};

use super::{Duration, Kind, Object, Spec, authorization_policy::TargetRef, is_default};

/// A traffic policy.
pub type TrafficPolicy = Object<TrafficPolicySpec>;

/// What a `TrafficPolicy` says. What it leaves out is as `MeshSettings.defaults` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicySpec {
    /// The service, in the policy's namespace. A policy for one port wins over one for all.
    pub target_ref: TargetRef,
    /// How an endpoint is chosen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub balancer: Option<Balancer>,
    /// When a failed attempt is made again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Option<Retries>,
    /// For a whole request, retries included; a route's own wins.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout: Option<Duration>,
    /// For a TCP connect and the handshake.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connect_timeout: Option<Duration>,
    /// When an endpoint that fails is left out for a while.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ejection: Option<Ejection>,
    /// What one proxy may have open to the service.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Option<Limits>,
}

impl Spec for TrafficPolicySpec {
    const KIND: Kind = Kind::TrafficPolicy;
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Balancer {
    /// The algorithm.
    #[serde(rename = "type", default)]
    pub algorithm: Algorithm,
    /// For `ringHash` and `maglev`: the request header that is hashed; the client's address where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hash_header: Option<String>,
}

/// The algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the field's own names")]
pub enum Algorithm {
    #[default]
    PeakEwma,
    LeastRequest,
    RoundRobin,
    RingHash,
    Maglev,
}

impl Algorithm {
    /// Whether it uses a hash.
    pub const fn hashes(self) -> bool {
        matches!(self, Self::RingHash | Self::Maglev)
    }
}

/// When a failed attempt is made again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retries {
    /// After the first attempt; 0 turns retries off.
    pub attempts: u32,
    /// What counts as a failure that may be tried again; connect failures, refused streams and 502 to 504 where it is empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on: Vec<RetryOn>,
    /// For one attempt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub per_try_timeout: Option<Duration>,
    /// The pause before a retry, doubled each time, with full jitter.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backoff: Option<Backoff>,
    /// What retries may cost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub budget: Option<RetryBudget>,
}

/// A condition for a retry, by the names that Envoy's `retry_on` has, or a status code (`503`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "Envoy's own names")]
pub enum RetryOn {
    #[serde(rename = "5xx")]
    ServerError,
    GatewayError,
    ConnectFailure,
    Reset,
    RefusedStream,
    Cancelled,
    DeadlineExceeded,
    ResourceExhausted,
    Unavailable,
    Internal,
    #[serde(untagged)]
    Status(u16),
}

/// The pause before a retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backoff {
    /// Before the first.
    pub base: Duration,
    /// Ten times the base where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max: Option<Duration>,
}

/// What retries may cost: a share of the requests in flight, and a floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryBudget {
    /// Of the requests in flight, 0 to 100.
    pub percent: u32,
    /// Retries that may run whatever the share.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_concurrency: Option<u32>,
}

/// When an endpoint is left out for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ejection {
    /// Failures in a row; 0 turns ejection off.
    pub consecutive_errors: u32,
    /// Between two looks at who may come back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interval: Option<Duration>,
    /// The first time out; it grows with each ejection.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base_time: Option<Duration>,
    /// The longest time out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_time: Option<Duration>,
    /// Of all endpoints, at most this share is out, 0 to 100.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_percent: Option<u32>,
}

/// What one proxy may have open to the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Connections.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_pending_requests: Option<u32>,
    /// Requests in flight.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_requests: Option<u32>,
}
