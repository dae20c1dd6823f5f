//! Gateway API v1 `GRPCRoute` with Services as parents: how calls of a service are matched, changed and split.

use serde::{Deserialize, Serialize};

use super::{
    Kind, Object, Spec,
    http_route::{BackendRef, Filter, ParentRef, Rule, ValueMatch, ValueMatchType},
    is_default,
};

/// A route.
pub type GrpcRoute = Object<GrpcRouteSpec>;

/// What a `GRPCRoute` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRouteSpec {
    /// The services whose calls it routes; as in `HTTPRoute`.
    pub parent_refs: Vec<ParentRef>,
    /// At least one; tried by Gateway API's precedence, not in this order.
    pub rules: Vec<GrpcRule>,
}

impl Spec for GrpcRouteSpec {
    const KIND: Kind = Kind::GrpcRoute;
}

/// One rule: where any match fits, the filters apply and a backend is drawn by weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRule {
    /// For people and metrics.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: Option<String>,
    /// Alternatives. Empty: every call.
    #[serde(default, skip_serializing_if = "is_default")]
    pub matches: Vec<GrpcMatch>,
    /// Changes to headers; at most one of each type.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filters: Vec<Filter>,
    /// Where calls go. Empty: they end with UNAVAILABLE.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backend_refs: Vec<BackendRef>,
}

impl GrpcRule {
    /// What it does with what it matches, as a rule of an `HTTPRoute` without matches.
    pub fn forward(&self) -> Rule {
        Rule {
            name: self.name.clone(),
            filters: self.filters.clone(),
            backend_refs: self.backend_refs.clone(),
            ..Rule::default()
        }
    }
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcMatch {
    /// Absent: every method of every service.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: Option<MethodMatch>,
    /// Each must hold.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: Vec<ValueMatch>,
}

/// A condition on what is called; at least one of its two parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MethodMatch {
    /// How both are compared.
    #[serde(rename = "type", default, skip_serializing_if = "is_default")]
    pub match_type: ValueMatchType,
    /// With its package: `shop.Cart`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service: Option<String>,
    /// Without the service: `Add`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: Option<String>,
}
