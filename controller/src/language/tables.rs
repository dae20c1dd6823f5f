//! The fields of every kind, in the order in which the reference shows them. A test holds them against the serde types.

mod grpc_route;
mod http_route;
mod mesh_settings;
mod policy;
mod service;
mod traffic_policy;
mod workload;

use super::{
    format::Format,
    shape::{Absent, Field, Shape},
};
use crate::model::Kind;

/// What a kind's `spec` looks like.
pub const fn spec(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Service => service::SPEC,
        Kind::HttpRoute => http_route::SPEC,
        Kind::GrpcRoute => grpc_route::SPEC,
        Kind::Workload => workload::SPEC,
        Kind::AuthorizationPolicy => policy::SPEC,
        Kind::TrafficPolicy => traffic_policy::SPEC,
        Kind::MeshSettings => mesh_settings::SPEC,
    }
}

/// What a kind is for, in a sentence or two.
pub const fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => {
            "A name for a set of workloads. It has a virtual IP of each family and the name `<service>.<namespace>.mesh`; its endpoints are the workloads of its namespace whose labels its selector finds."
        }
        Kind::HttpRoute => {
            "How requests to a Service are matched, changed and split. Gateway API's HTTPRoute with Services as parents; among several routes of a Service the most exact match wins, as Gateway API says, and of equals the route whose name comes first. What no rule matches is answered with 404. For clients of a namespace that has routes of its own to a Service of another, those alone hold (docs/routes.md)."
        }
        Kind::GrpcRoute => {
            "How gRPC calls of a Service are matched, changed and split. Gateway API's GRPCRoute with Services as parents; parents and precedence as in HTTPRoute. What no rule matches ends with `UNIMPLEMENTED`. A port takes HTTPRoutes or GRPCRoutes of a namespace, not both."
        }
        Kind::Workload => {
            "A program on a host. Its labels join those of the sidecar that registers under the same name, and win over them. With addresses and without a sidecar it is an endpoint in plain text."
        }
        Kind::AuthorizationPolicy => {
            "Who may call what. A denial that matches refuses. Then, where any policy that allows holds for the port, one of its rules must match. Plain text has no identity and matches no rule that names one."
        }
        Kind::TrafficPolicy => {
            "How a Service is called: balancing, retries, timeouts, ejection, limits. What it leaves out is as `MeshSettings.spec.defaults` has it. A policy for one port wins over one for all ports."
        }
        Kind::MeshSettings => "What holds for the whole mesh. There is one, named `default`.",
    }
}

/// What every object has in `metadata`.
pub const METADATA: &[Field] = &[
    required(
        "name",
        Shape::Text(Format::Label),
        "Unique within kind and namespace.",
    ),
    optional(
        "namespace",
        Shape::Text(Format::Label),
        "`default`",
        "Where it lives.",
    ),
    optional(
        "labels",
        Shape::Map(Format::LabelKey, Format::LabelValue),
        "none",
        "What selectors match.",
    ),
    optional(
        "annotations",
        Shape::Map(Format::LabelKey, Format::Any),
        "none",
        "Kept and shown, never interpreted.",
    ),
];

/// A reference to a Service of the own namespace.
const TARGET_REF: &[Field] = &[
    optional("group", Shape::Choice(&[""]), "core", "The core group."),
    optional(
        "kind",
        Shape::Choice(&["Service"]),
        "`Service`",
        "The one kind that may be named.",
    ),
    required(
        "name",
        Shape::Text(Format::Label),
        "A Service in the policy's namespace.",
    ),
    optional(
        "port",
        super::shape::PORT,
        "all its ports",
        "One port of it.",
    ),
];

const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field {
        name,
        shape,
        absent: Absent::Refused,
        doc,
    }
}

const fn optional(
    name: &'static str,
    shape: Shape,
    absent: &'static str,
    doc: &'static str,
) -> Field {
    Field {
        name,
        shape,
        absent: Absent::Means(absent),
        doc,
    }
}
