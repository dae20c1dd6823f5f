//! The fields of `Workload`.

use super::{optional, required};
use crate::{
    language::{
        format::Format,
        shape::{Field, PORT, Shape},
    },
    model::kinds::AppProtocol,
};

pub(super) const SPEC: &[Field] = &[
    optional(
        "addresses",
        Shape::List(&Shape::Text(Format::Address), 0),
        "only through its sidecar",
        "Where it is reached in plain text while no sidecar has registered it.",
    ),
    optional(
        "ports",
        Shape::List(&Shape::Object(WORKLOAD_PORT), 0),
        "any",
        "What it listens on.",
    ),
    optional(
        "serviceAccount",
        Shape::Text(Format::Subdomain),
        "any",
        "The service account that its sidecar's identity must have.",
    ),
    optional(
        "locality",
        Shape::Text(Format::Locality),
        "none",
        "Where it is; near endpoints are preferred.",
    ),
    optional(
        "upstreams",
        Shape::List(&Shape::Object(UPSTREAM), 0),
        "none",
        "Explicit listeners of its sidecar, for hosts without redirection.",
    ),
];

const WORKLOAD_PORT: &[Field] = &[
    optional(
        "name",
        Shape::Text(Format::PortName),
        "none",
        "What a Service's `targetPort` may name.",
    ),
    required("port", PORT, "Its number."),
    optional(
        "appProtocol",
        Shape::Choice(&AppProtocol::NAMES),
        "found by detection",
        "What is spoken.",
    ),
];

const UPSTREAM: &[Field] = &[
    required(
        "listen",
        Shape::Text(Format::SocketAddress),
        "A loopback address of the host with a port.",
    ),
    required(
        "service",
        Shape::Object(UPSTREAM_SERVICE),
        "Where it leads.",
    ),
];

const UPSTREAM_SERVICE: &[Field] = &[
    required("name", Shape::Text(Format::Label), "The Service."),
    optional(
        "namespace",
        Shape::Text(Format::Label),
        "the workload's",
        "Where that Service lives.",
    ),
    required("port", PORT, "A port of that Service."),
];
