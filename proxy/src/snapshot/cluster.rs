//! One port of a service as its endpoints see it: who serves it, how one is picked, what is too much.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How an endpoint is picked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balancing {
    /// Two random choices over peak EWMA latency times load.
    #[default]
    PeakEwma,
    /// Two random choices over requests in flight.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// A ring of hashes: the same key goes to the same endpoint while it is there.
    RingHash(HashKey),
    /// Maglev's table: as the ring, more even, cheaper to ask.
    Maglev(HashKey),
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Client,
    /// A request header's value; the client's address where it is missing.
    Header(http::HeaderName),
}

/// When an endpoint is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlier {
    /// So many 5xx answers, or failures to get one, in a row. 0: not counted.
    pub consecutive_5xx: u32,
    /// So many 502, 503, 504, or failures to get an answer, in a row. 0: not counted.
    pub consecutive_gateway_failure: u32,
    /// How often ejected endpoints are looked at.
    pub interval: Duration,
    /// How long the first ejection lasts; the nth lasts n times as long.
    pub base_ejection_time: Duration,
    /// No ejection lasts longer.
    pub max_ejection_time: Duration,
    /// No more than this part of the endpoints, and at least one, is ejected at a time.
    pub max_ejection_percent: u32,
}

/// How many retries may be under way.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryBudget {
    /// Percent of the requests under way.
    pub percent: f64,
    /// So many are always allowed.
    pub min_concurrency: u32,
}

impl Default for RetryBudget {
    /// What Envoy takes where a budget says nothing: a fifth, and three.
    fn default() -> Self {
        Self {
            percent: 20.0,
            min_concurrency: 3,
        }
    }
}

/// What is too much for one destination, counted by this proxy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Connections, and opaque streams that stand for one.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests under way.
    pub max_requests: Option<u32>,
    /// Retries under way.
    pub retry_budget: RetryBudget,
}

/// How one port of a service is reached (CDS).
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// `<namespace>/<service>:<port>`.
    pub name: Arc<str>,
    /// The service's namespace.
    pub namespace: Arc<str>,
    /// The service's name.
    pub service: Arc<str>,
    /// The service's port.
    pub port: u16,
    /// For the TCP connection and the TLS handshake, each.
    pub connect_timeout: Duration,
    /// How an endpoint is picked.
    pub balancing: Balancing,
    /// When an endpoint is left alone. None: never.
    pub outlier: Option<Outlier>,
    /// What is too much.
    pub limits: Limits,
}

/// Whether an endpoint says that it can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It is sent traffic.
    Healthy,
    /// It is sent none, unless no endpoint is healthy.
    Unhealthy,
}

/// What a meshed endpoint speaks inside of mutual TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MeshForm {
    /// `maille/1`.
    Native,
    /// The application's own protocol: an Envoy, or a gRPC program.
    Plain,
}

/// How a meshed endpoint is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MeshAddress {
    /// Where it is reached; the address is the endpoint's own.
    pub port: u16,
    /// What is spoken there.
    pub form: MeshForm,
    /// The SPIFFE id that it must prove.
    pub identity: Arc<str>,
}

/// Where an endpoint stands; compared for equality only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Locality {
    /// Its region.
    pub region: Arc<str>,
    /// Its zone.
    pub zone: Arc<str>,
}

/// One process that serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The application's address and target port.
    pub address: SocketAddr,
    /// The workload's namespace.
    pub namespace: Arc<str>,
    /// The workload's name.
    pub workload: Arc<str>,
    /// Where it stands.
    pub locality: Locality,
    /// Whether it is sent traffic.
    pub health: Health,
    /// Relative to its neighbours; at least 1.
    pub weight: u32,
    /// None: it is reached in plain text.
    pub mesh: Option<MeshAddress>,
}

/// Who serves one port of a service (EDS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// `<namespace>/<service>:<port>`.
    pub name: Arc<str>,
    /// In the order in which they came.
    pub endpoints: Vec<Endpoint>,
}
