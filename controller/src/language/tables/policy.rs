//! The fields of `AuthorizationPolicy`.

use super::{TARGET_REF, optional, required};
use crate::language::{
    format::Format,
    shape::{Field, PORT, Shape},
};

pub(super) const SPEC: &[Field] = &[
    optional(
        "selector",
        Shape::Object(LABEL_SELECTOR),
        "every workload of the namespace",
        "Workloads by labels; not together with `targetRef`.",
    ),
    optional(
        "targetRef",
        Shape::Object(TARGET_REF),
        "every workload of the namespace",
        "The workloads behind a Service, on the ports that it targets.",
    ),
    optional(
        "action",
        Shape::Choice(&["Allow", "Deny"]),
        "`Allow`",
        "What a match does.",
    ),
    optional(
        "rules",
        Shape::List(&Shape::Object(RULE), 0),
        "no match: `Allow` allows nothing, `Deny` denies nothing",
        "Alternatives. A rule `{}` matches anything.",
    ),
];

const LABEL_SELECTOR: &[Field] = &[required(
    "matchLabels",
    Shape::Map(Format::LabelKey, Format::LabelValue),
    "Labels that must all be there.",
)];

const RULE: &[Field] = &[
    optional(
        "from",
        Shape::List(&Shape::Object(SOURCE), 0),
        "anybody, plain text too",
        "Callers; alternatives.",
    ),
    optional(
        "to",
        Shape::List(&Shape::Object(OPERATION), 0),
        "anything",
        "What is called; alternatives.",
    ),
];

const SOURCE: &[Field] = &[
    optional(
        "identities",
        Shape::List(&Shape::Text(Format::IdentityPattern), 0),
        "any",
        "SPIFFE ids, exact or with one `*` at the end.",
    ),
    optional(
        "namespaces",
        Shape::List(&Shape::Text(Format::Label), 0),
        "any",
        "Namespaces of the caller's identity.",
    ),
];

const OPERATION: &[Field] = &[
    optional(
        "ports",
        Shape::List(&PORT, 0),
        "all",
        "The workload's ports, not the Service's.",
    ),
    optional(
        "methods",
        Shape::List(&Shape::Text(Format::Method), 0),
        "all",
        "HTTP methods. On an opaque connection a rule with methods or paths matches only if it denies.",
    ),
    optional(
        "paths",
        Shape::List(&Shape::Text(Format::PathPattern), 0),
        "all",
        "Paths, exact or with one `*` at the end.",
    ),
];
