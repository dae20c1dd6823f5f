//! `AuthorizationPolicy`: who may call what. Denials first; then, where any allow policy selects a port, one must match.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Kind, Object, Spec, http_route::ServiceKind, is_default};

/// An authorization policy.
pub type AuthorizationPolicy = Object<AuthorizationPolicySpec>;

/// What an `AuthorizationPolicy` says. With neither `selector` nor `targetRef` it holds for all of its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationPolicySpec {
    /// Workloads by their labels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub selector: Option<LabelSelector>,
    /// The workloads behind a service, on the ports that it targets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target_ref: Option<TargetRef>,
    /// What a match does.
    #[serde(default)]
    pub action: Action,
    /// Alternatives. `Allow` without rules allows nothing; `Deny` without rules denies nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rules: Vec<AuthorizationRule>,
}

impl Spec for AuthorizationPolicySpec {
    const KIND: Kind = Kind::AuthorizationPolicy;
}

/// Selects by labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// All must be there; at least one.
    pub match_labels: BTreeMap<String, String>,
}

/// A service in the policy's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// Empty (core).
    #[serde(default, skip_serializing_if = "is_default")]
    pub group: String,
    /// `Service`.
    #[serde(default)]
    pub kind: ServiceKind,
    /// Its name.
    pub name: String,
    /// One port of it; all where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub port: Option<u16>,
}

/// What a match does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "said by their names")]
pub enum Action {
    #[default]
    Allow,
    Deny,
}

/// A source of `from` and a request of `to` must both fit; an absent list fits anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationRule {
    /// Alternatives. Empty: anybody, without a certificate too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub from: Vec<Source>,
    /// Alternatives. Empty: anything.
    #[serde(default, skip_serializing_if = "is_default")]
    pub to: Vec<Operation>,
}

/// Who calls: all lists that are given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// SPIFFE ids, exact or with one `*` at the end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub identities: Vec<String>,
    /// Namespaces of the caller's identity.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespaces: Vec<String>,
}

/// What is called: all lists that are given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// The workload's ports.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<u16>,
    /// In upper case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub methods: Vec<String>,
    /// Exact, or a prefix with one `*` at the end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub paths: Vec<String>,
}
