//! The fields of `HTTPRoute`.

use super::{optional, required};
use crate::language::{
    format::Format,
    shape::{Field, PORT, Shape},
};

pub(super) const SPEC: &[Field] = &[
    required(
        "parentRefs",
        Shape::List(&Shape::Object(PARENT_REF), 1),
        "The Services whose requests it routes; a Service, or a port of it, once.",
    ),
    required(
        "rules",
        Shape::List(&Shape::Object(RULE), 1),
        "What is done with them.",
    ),
];

pub(super) const PARENT_REF: &[Field] = &[
    optional(
        "group",
        Shape::Choice(&["", "core"]),
        "core",
        "The core group.",
    ),
    required("kind", Shape::Choice(&["Service"]), "`Service`."),
    required("name", Shape::Text(Format::Label), "The Service."),
    optional(
        "namespace",
        Shape::Text(Format::Label),
        "the route's",
        "Where the Service lives. Of another namespace: only requests from clients in the route's own namespace are meant, and for them no route of the Service's namespace holds.",
    ),
    optional("port", PORT, "all its ports", "One port of it."),
];

const RULE: &[Field] = &[
    optional(
        "name",
        Shape::Text(Format::Label),
        "none",
        "For people and metrics.",
    ),
    optional(
        "matches",
        Shape::List(&Shape::Object(MATCH), 0),
        "every request",
        "Alternatives.",
    ),
    optional(
        "filters",
        Shape::List(&FILTER, 0),
        "none",
        "Changes; at most one of each type.",
    ),
    optional(
        "backendRefs",
        Shape::List(&Shape::Object(BACKEND_REF), 0),
        "none: 500 without a redirect",
        "Where requests go, by weight.",
    ),
    optional(
        "timeouts",
        Shape::Object(TIMEOUTS),
        "as in TrafficPolicy",
        "Limits in time; `0s` means none.",
    ),
];

const MATCH: &[Field] = &[
    optional(
        "path",
        Shape::Object(PATH_MATCH),
        "every path",
        "A condition on the path, without the query.",
    ),
    optional(
        "headers",
        Shape::List(&Shape::Object(HEADER_MATCH), 0),
        "none",
        "Conditions on headers; each must hold.",
    ),
    optional(
        "queryParams",
        Shape::List(&Shape::Object(QUERY_MATCH), 0),
        "none",
        "Conditions on query parameters; each must hold.",
    ),
    optional(
        "method",
        Shape::Text(Format::Method),
        "every method",
        "In upper case.",
    ),
];

const PATH_MATCH: &[Field] = &[
    optional(
        "type",
        Shape::Choice(&["PathPrefix", "Exact", "RegularExpression"]),
        "`PathPrefix`",
        "`PathPrefix` matches whole segments. A regular expression (Rust `regex` syntax) matches the whole path.",
    ),
    optional(
        "value",
        Shape::Text(Format::PathValue),
        "`/`",
        "What to compare with.",
    ),
];

pub(super) const MATCH_TYPE: Shape = Shape::Choice(&["Exact", "RegularExpression"]);

pub(super) const HEADER_MATCH: &[Field] = &[
    optional(
        "type",
        MATCH_TYPE,
        "`Exact`",
        "How it is compared; an expression matches the whole value.",
    ),
    required(
        "name",
        Shape::Text(Format::HeaderName),
        "Compared without case.",
    ),
    required(
        "value",
        Shape::Text(Format::HeaderValue),
        "What to compare with.",
    ),
];

const QUERY_MATCH: &[Field] = &[
    optional(
        "type",
        MATCH_TYPE,
        "`Exact`",
        "How it is compared; an expression matches the whole value.",
    ),
    required("name", Shape::Text(Format::Any), "Compared with case."),
    required("value", Shape::Text(Format::Any), "What to compare with."),
];

const FILTER: Shape = Shape::Tagged(
    &[
        required(
            "type",
            Shape::Choice(&[
                "RequestHeaderModifier",
                "ResponseHeaderModifier",
                "RequestRedirect",
                "URLRewrite",
            ]),
            "Which of the fields beside it is meant.",
        ),
        optional(
            "requestHeaderModifier",
            Shape::Object(HEADER_MODIFIER),
            "none",
            "Changes the request's headers.",
        ),
        optional(
            "responseHeaderModifier",
            Shape::Object(HEADER_MODIFIER),
            "none",
            "Changes the answer's headers.",
        ),
        optional(
            "requestRedirect",
            Shape::Object(REDIRECT),
            "none",
            "Sends the client elsewhere.",
        ),
        optional(
            "urlRewrite",
            Shape::Object(URL_REWRITE),
            "none",
            "Changes host or path before the request is sent on.",
        ),
    ],
    &[
        ("RequestHeaderModifier", "requestHeaderModifier"),
        ("ResponseHeaderModifier", "responseHeaderModifier"),
        ("RequestRedirect", "requestRedirect"),
        ("URLRewrite", "urlRewrite"),
    ],
);

pub(super) const HEADER_MODIFIER: &[Field] = &[
    optional(
        "set",
        Shape::List(&Shape::Object(HEADER), 0),
        "none",
        "Replaces.",
    ),
    optional(
        "add",
        Shape::List(&Shape::Object(HEADER), 0),
        "none",
        "Adds beside what is there.",
    ),
    optional(
        "remove",
        Shape::List(&Shape::Text(Format::HeaderName), 0),
        "none",
        "Removes by name.",
    ),
];

const HEADER: &[Field] = &[
    required("name", Shape::Text(Format::HeaderName), "The header."),
    required("value", Shape::Text(Format::HeaderValue), "Its value."),
];

const REDIRECT: &[Field] = &[
    optional(
        "scheme",
        Shape::Choice(&["http", "https"]),
        "the request's",
        "The scheme.",
    ),
    optional(
        "hostname",
        Shape::Text(Format::Hostname),
        "the request's",
        "The host.",
    ),
    optional("path", PATH_MODIFIER, "the request's", "The path."),
    optional(
        "port",
        PORT,
        "by the scheme where that is set, else the listener's",
        "The port.",
    ),
    optional(
        "statusCode",
        Shape::Integer(301, 308),
        "302",
        "301, 302, 303, 307 or 308.",
    ),
];

const URL_REWRITE: &[Field] = &[
    optional(
        "hostname",
        Shape::Text(Format::Hostname),
        "unchanged",
        "Replaces `Host`.",
    ),
    optional(
        "path",
        PATH_MODIFIER,
        "unchanged",
        "Replaces the path or its matched prefix.",
    ),
];

const PATH_MODIFIER: Shape = Shape::Tagged(
    &[
        required(
            "type",
            Shape::Choice(&["ReplaceFullPath", "ReplacePrefixMatch"]),
            "Which of the fields beside it is meant.",
        ),
        optional(
            "replaceFullPath",
            Shape::Text(Format::Path),
            "none",
            "The new path.",
        ),
        optional(
            "replacePrefixMatch",
            Shape::Text(Format::Path),
            "none",
            "The new prefix; every match of the rule must be a `PathPrefix`.",
        ),
    ],
    &[
        ("ReplaceFullPath", "replaceFullPath"),
        ("ReplacePrefixMatch", "replacePrefixMatch"),
    ],
);

const BACKEND_REF: &[Field] = &backend_ref(&FILTER);

/// A share of the traffic, and what its filters may be.
pub(super) const fn backend_ref(filter: &'static Shape) -> [Field; 7] {
    [
        optional(
            "group",
            Shape::Choice(&["", "core"]),
            "core",
            "The core group.",
        ),
        optional(
            "kind",
            Shape::Choice(&["Service"]),
            "`Service`",
            "The one kind that may be named.",
        ),
        required("name", Shape::Text(Format::Label), "The Service."),
        optional(
            "namespace",
            Shape::Text(Format::Label),
            "the route's",
            "Where that Service lives.",
        ),
        required("port", PORT, "A port of that Service."),
        optional(
            "weight",
            Shape::Integer(0, 1_000_000),
            "1",
            "Its share is its weight over the sum of all.",
        ),
        optional(
            "filters",
            Shape::List(filter, 0),
            "none",
            "Header changes for this backend only.",
        ),
    ]
}

const TIMEOUTS: &[Field] = &[
    optional(
        "request",
        Shape::Duration,
        "as in TrafficPolicy",
        "For the whole, retries included.",
    ),
    optional(
        "backendRequest",
        Shape::Duration,
        "none",
        "For one attempt; not longer than `request`.",
    ),
];
