//! Gateway API v1 `HTTPRoute` with Services as parents: how requests to a service are matched, changed and split.

use serde::{Deserialize, Serialize};

use super::{Duration, Kind, Object, Spec, is_default};
use crate::model::Name;

/// A route.
pub type HttpRoute = Object<HttpRouteSpec>;

/// What an `HTTPRoute` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRouteSpec {
    /// The services whose requests it routes; at least one. Where one is of another namespace, only the requests from the route's own.
    pub parent_refs: Vec<ParentRef>,
    /// At least one; tried by Gateway API's precedence, not in this order.
    pub rules: Vec<Rule>,
}

impl Spec for HttpRouteSpec {
    const KIND: Kind = Kind::HttpRoute;
}

/// A service that the route attaches to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParentRef {
    /// Empty (core); the long form `core` is accepted as input.
    #[serde(default, skip_serializing_if = "is_default")]
    pub group: String,
    /// `Service`.
    pub kind: ServiceKind,
    /// The service's name.
    pub name: String,
    /// The route's own where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespace: Option<String>,
    /// One port of it; all where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub port: Option<u16>,
}

impl ParentRef {
    /// The service that a route of this name means.
    pub fn service(&self, route: &Name) -> Name {
        let namespace = self.namespace.as_deref().unwrap_or(&route.namespace);
        Name::new(namespace, self.name.as_str())
    }

    /// Whether requests to this port of the service are meant.
    pub fn concerns(&self, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
    }
}

/// The one kind that may be referred to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceKind {
    /// core v1 `Service`.
    #[default]
    Service,
}

/// One rule: where any match fits, the filters apply and a backend is drawn by weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// For people and metrics.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: Option<String>,
    /// Alternatives. Empty: every request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub matches: Vec<Match>,
    /// At most one of each type.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filters: Vec<Filter>,
    /// Where requests go. Empty without a redirect: 500.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backend_refs: Vec<BackendRef>,
    /// Limits in time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: Option<Timeouts>,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// Absent: every path.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: Option<PathMatch>,
    /// Each must hold.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: Vec<ValueMatch>,
    /// Each must hold.
    #[serde(default, skip_serializing_if = "is_default")]
    pub query_params: Vec<ValueMatch>,
    /// In upper case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: Option<String>,
}

/// A condition on the path, without the query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathMatch {
    /// How it is compared.
    #[serde(rename = "type", default)]
    pub match_type: PathMatchType,
    /// Starts with `/` unless it is a regular expression.
    #[serde(default = "root_path")]
    pub value: String,
}

fn root_path() -> String {
    "/".to_owned()
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatchType {
    /// The whole path.
    Exact,
    /// Whole segments from the start: `/a` matches `/a` and `/a/b`, not `/ab`.
    #[default]
    PathPrefix,
    /// The whole path, by a regular expression of Rust's `regex` syntax.
    RegularExpression,
}

/// A condition on a header or a query parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValueMatch {
    /// How it is compared.
    #[serde(rename = "type", default, skip_serializing_if = "is_default")]
    pub match_type: ValueMatchType,
    /// A header's name compares without case, a parameter's with.
    pub name: String,
    /// What to compare with.
    pub value: String,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueMatchType {
    /// The whole value.
    #[default]
    Exact,
    /// The whole value, by a regular expression.
    RegularExpression,
}

/// A change to requests or answers; `type` names the one field that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
#[expect(missing_docs, reason = "Gateway API's own names")]
pub enum Filter {
    RequestHeaderModifier {
        #[serde(rename = "requestHeaderModifier")]
        request_header_modifier: HeaderModifier,
    },
    ResponseHeaderModifier {
        #[serde(rename = "responseHeaderModifier")]
        response_header_modifier: HeaderModifier,
    },
    RequestRedirect {
        #[serde(rename = "requestRedirect")]
        request_redirect: Redirect,
    },
    #[serde(rename = "URLRewrite")]
    UrlRewrite {
        #[serde(rename = "urlRewrite")]
        url_rewrite: UrlRewrite,
    },
}

impl Filter {
    /// The `type` as documents write it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::RequestHeaderModifier { .. } => "RequestHeaderModifier",
            Self::ResponseHeaderModifier { .. } => "ResponseHeaderModifier",
            Self::RequestRedirect { .. } => "RequestRedirect",
            Self::UrlRewrite { .. } => "URLRewrite",
        }
    }
}

/// Changes to headers: first `set`, then `add`, then `remove`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderModifier {
    /// Replaces.
    #[serde(default, skip_serializing_if = "is_default")]
    pub set: Vec<Header>,
    /// Adds beside what is there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub add: Vec<Header>,
    /// Removes by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remove: Vec<String>,
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "said by their names")]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redirect {
    /// `http` or `https`; the request's where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheme: Option<Scheme>,
    /// The request's where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname: Option<String>,
    /// The request's where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: Option<PathModifier>,
    /// By scheme where that is set, else the listener's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308; 302 where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status_code: Option<u16>,
}

/// A URL's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "said by their names")]
pub enum Scheme {
    Http,
    Https,
}

/// A change of the request's host or path before it is sent on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UrlRewrite {
    /// Replaces `Host`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname: Option<String>,
    /// Replaces the path or its matched prefix.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: Option<PathModifier>,
}

/// A change of the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
#[expect(missing_docs, reason = "Gateway API's own names")]
pub enum PathModifier {
    ReplaceFullPath {
        #[serde(rename = "replaceFullPath")]
        replace_full_path: String,
    },
    /// Only with a `PathPrefix` match.
    ReplacePrefixMatch {
        #[serde(rename = "replacePrefixMatch")]
        replace_prefix_match: String,
    },
}

/// A share of the traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendRef {
    /// Empty (core).
    #[serde(default, skip_serializing_if = "is_default")]
    pub group: String,
    /// `Service`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: ServiceKind,
    /// The service's name.
    pub name: String,
    /// The route's own where it is absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespace: Option<String>,
    /// A port of that service.
    pub port: u16,
    /// Its share is `weight` over the sum of all.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// Changes for this backend only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filters: Vec<Filter>,
}

impl BackendRef {
    /// The service that a route of this name means.
    pub fn service(&self, route: &Name) -> Name {
        let namespace = self.namespace.as_deref().unwrap_or(&route.namespace);
        Name::new(namespace, self.name.as_str())
    }
}

const fn one() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// Limits in time; `0s` means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// For the whole, retries included.
    #[serde(default, skip_serializing_if = "is_default")]
    pub request: Option<Duration>,
    /// For one attempt; not longer than `request`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backend_request: Option<Duration>,
}
