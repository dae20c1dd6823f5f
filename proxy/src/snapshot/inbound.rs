//! Who may call this workload, and where it calls out by explicit listeners.

use super::listener::Protocol;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Whether plaintext is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mtls {
    /// Plaintext is taken; it matches no identity rule.
    Permissive,
    /// Only verified peers.
    Strict,
}

/// What an authorization rule does where it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// One of the rules of this kind must match where there is any.
    Allow,
    /// Refuses, whatever else matches.
    Deny,
}

/// A text, exact or with one `*` at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The whole text.
    Exact(Arc<str>),
    /// What stands before the `*`.
    Prefix(Arc<str>),
}

impl Pattern {
    /// Reads `text` or `prefix*`.
    pub fn new(text: &str) -> Self {
        text.strip_suffix('*').map_or_else(
            || Self::Exact(text.into()),
            |start| Self::Prefix(start.into()),
        )
    }

    /// Whether `text` is meant.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(whole) => &**whole == text,
            Self::Prefix(start) => text.starts_with(&**start),
        }
    }
}

/// One rule. Lists are alternatives, an empty list matches anything, the lists of one rule must all match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Allow or deny.
    pub action: Action,
    /// `<namespace>/<policy>`, for metrics and the log.
    pub policy: Arc<str>,
    /// SPIFFE ids. Plaintext matches only an empty list.
    pub identities: Vec<Pattern>,
    /// Namespaces of the peer's identity. Plaintext matches only an empty list.
    pub namespaces: Vec<Arc<str>>,
    /// HTTP methods.
    pub methods: Vec<Arc<str>>,
    /// Paths of requests, without their query.
    pub paths: Vec<Pattern>,
}

/// What holds for one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundPort {
    /// How its bytes are understood.
    pub protocol: Protocol,
    /// Whether plaintext is taken.
    pub mtls: Mtls,
    /// Denials and allowances, in any order: denials are asked first.
    pub rules: Vec<Rule>,
    /// True where an allow policy selects the port: no match, no access.
    pub default_deny: bool,
}

/// The workload's own listener resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The workload's namespace.
    pub namespace: Arc<str>,
    /// The workload's name.
    pub workload: Arc<str>,
    /// The SPIFFE id that it must present.
    pub identity: Arc<str>,
    /// The ports that are named.
    pub ports: HashMap<u16, Arc<InboundPort>>,
    /// What holds for every other port.
    pub default: Arc<InboundPort>,
    /// Where the workload calls out by explicit listeners.
    pub upstreams: Vec<Upstream>,
}

impl Inbound {
    /// What holds for `port`.
    pub fn port(&self, port: u16) -> &Arc<InboundPort> {
        self.ports.get(&port).unwrap_or(&self.default)
    }
}

/// An explicit listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The listener that it leads to: `out/<service>.<namespace>:<port>`.
    pub target: Arc<str>,
}
