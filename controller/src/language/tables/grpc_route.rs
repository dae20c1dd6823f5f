//! The fields of `GRPCRoute`.

use super::{
    http_route::{HEADER_MATCH, HEADER_MODIFIER, MATCH_TYPE, PARENT_REF, backend_ref},
    optional, required,
};
use crate::language::{
    format::Format,
    shape::{Field, Shape},
};

pub(super) const SPEC: &[Field] = &[
    required(
        "parentRefs",
        Shape::List(&Shape::Object(PARENT_REF), 1),
        "The Services whose calls it routes; a Service, or a port of it, once.",
    ),
    required(
        "rules",
        Shape::List(&Shape::Object(RULE), 1),
        "What is done with them.",
    ),
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
        "every call",
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
        "none: `UNAVAILABLE`",
        "Where calls go, by weight.",
    ),
];

const MATCH: &[Field] = &[
    optional(
        "method",
        Shape::Object(METHOD_MATCH),
        "every method",
        "A condition on what is called; `service`, `method` or both.",
    ),
    optional(
        "headers",
        Shape::List(&Shape::Object(HEADER_MATCH), 0),
        "none",
        "Conditions on headers; each must hold.",
    ),
];

const METHOD_MATCH: &[Field] = &[
    optional(
        "type",
        MATCH_TYPE,
        "`Exact`",
        "How both are compared; an expression (Rust `regex` syntax) matches the whole name.",
    ),
    optional(
        "service",
        Shape::Text(Format::Any),
        "every service",
        "The service with its package, as in `shop.Cart`.",
    ),
    optional(
        "method",
        Shape::Text(Format::Any),
        "every method",
        "The method, as in `Add`.",
    ),
];

const FILTER: Shape = Shape::Tagged(
    &[
        required(
            "type",
            Shape::Choice(&["RequestHeaderModifier", "ResponseHeaderModifier"]),
            "Which of the fields beside it is meant.",
        ),
        optional(
            "requestHeaderModifier",
            Shape::Object(HEADER_MODIFIER),
            "none",
            "Changes the call's headers.",
        ),
        optional(
            "responseHeaderModifier",
            Shape::Object(HEADER_MODIFIER),
            "none",
            "Changes the answer's headers.",
        ),
    ],
    &[
        ("RequestHeaderModifier", "requestHeaderModifier"),
        ("ResponseHeaderModifier", "responseHeaderModifier"),
    ],
);

const BACKEND_REF: &[Field] = &backend_ref(&FILTER);
