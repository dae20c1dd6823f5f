//! Who may do what: denials first, then, where anything is allowed by rule, one allowance must match. Pure.

mod path;

pub use path::normal;

use crate::snapshot::{Action, InboundPort, Mtls, Rule};
use std::sync::Arc;

/// A verified peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    pub id: Arc<str>,
    /// The namespace in it.
    pub namespace: Arc<str>,
    /// The trust domain in it.
    pub trust_domain: Arc<str>,
}

/// What of a request the rules look at.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, without its query.
    pub path: &'a str,
}

/// What was decided, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Go on; the policy whose rule allowed it, if one had to.
    Allow(Option<&'a str>),
    /// Refuse.
    Deny(Denial<'a>),
}

/// Why it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial<'a> {
    /// Plaintext where mutual TLS is demanded.
    Plaintext,
    /// A rule of this policy denies it.
    Denied(&'a str),
    /// Something is allowed here, and this is not it.
    NotAllowed,
}

impl<'a> Denial<'a> {
    /// As metrics and the log say it.
    pub fn policy(self) -> &'a str {
        match self {
            Self::Plaintext => "(plaintext)",
            Self::Denied(policy) => policy,
            Self::NotAllowed => "(no rule allows it)",
        }
    }
}

/// Judges a request (`request` is given), or a connection whose content is not looked at.
pub fn judge<'a>(
    port: &'a InboundPort,
    peer: Option<&PeerIdentity>,
    request: Option<RequestFacts<'_>>,
) -> Verdict<'a> {
    if peer.is_none() && port.mtls == Mtls::Strict {
        return Verdict::Deny(Denial::Plaintext);
    }
    let denies = |rule: &&Rule| rule.action == Action::Deny && denies(rule, peer, request);
    if let Some(rule) = port.rules.iter().find(denies) {
        return Verdict::Deny(Denial::Denied(&rule.policy));
    }
    let mut must_match = port.default_deny;
    for rule in port
        .rules
        .iter()
        .filter(|rule| rule.action == Action::Allow)
    {
        must_match = true;
        if allows(rule, peer, request) {
            return Verdict::Allow(Some(&rule.policy));
        }
    }
    if must_match {
        return Verdict::Deny(Denial::NotAllowed);
    }
    Verdict::Allow(None)
}

/// On an opaque connection nobody can tell the method or the path, so a denial of some denies all.
fn denies(rule: &Rule, peer: Option<&PeerIdentity>, request: Option<RequestFacts<'_>>) -> bool {
    matches_peer(rule, peer) && request.is_none_or(|request| matches_request(rule, request))
}

/// And an allowance of some allows none.
fn allows(rule: &Rule, peer: Option<&PeerIdentity>, request: Option<RequestFacts<'_>>) -> bool {
    let about_requests = !rule.methods.is_empty() || !rule.paths.is_empty();
    matches_peer(rule, peer)
        && request.map_or(!about_requests, |request| matches_request(rule, request))
}

fn matches_peer(rule: &Rule, peer: Option<&PeerIdentity>) -> bool {
    let any = rule.identities.is_empty() && rule.namespaces.is_empty();
    let Some(peer) = peer else { return any };
    let identity = |pattern: &crate::snapshot::Pattern| pattern.matches(&peer.id);
    (rule.identities.is_empty() || rule.identities.iter().any(identity))
        && (rule.namespaces.is_empty() || rule.namespaces.contains(&peer.namespace))
}

fn matches_request(rule: &Rule, request: RequestFacts<'_>) -> bool {
    let method = |method: &Arc<str>| **method == *request.method;
    (rule.methods.is_empty() || rule.methods.iter().any(method))
        && (rule.paths.is_empty() || rule.paths.iter().any(|path| path.matches(request.path)))
}

#[cfg(test)]
mod tests;
