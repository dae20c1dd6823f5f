//! The fields of `MeshSettings`.

use super::{
    optional, required,
    traffic_policy::{
        BALANCER_FIELD, CONNECT_TIMEOUT_FIELD, EJECTION_FIELD, LIMITS_FIELD, RETRIES_FIELD,
        TIMEOUT_FIELD,
    },
};
use crate::language::{
    format::Format,
    shape::{Field, PORT, Shape},
};

pub(super) const SPEC: &[Field] = &[
    optional(
        "mtls",
        Shape::Object(MTLS),
        "permissive",
        "Whether plain text is accepted.",
    ),
    optional(
        "vipRange",
        Shape::Object(VIP_RANGE),
        "as below",
        "Where virtual IPs come from.",
    ),
    optional(
        "defaults",
        Shape::Object(DEFAULTS),
        "as in TrafficPolicy",
        "What holds where no TrafficPolicy says otherwise.",
    ),
    optional(
        "identity",
        Shape::Object(IDENTITY),
        "as below",
        "Certificates.",
    ),
    optional("dns", Shape::Object(DNS), "as below", "Names."),
];

const MODE: Shape = Shape::Choice(&["Permissive", "Strict"]);

const MTLS: &[Field] = &[
    optional("mode", MODE, "`Permissive`", "`Strict` refuses plain text."),
    optional(
        "overrides",
        Shape::List(&Shape::Object(OVERRIDE), 0),
        "none",
        "Parts of the mesh with a mode of their own; the most exact wins: ports over labels over namespace.",
    ),
];

const OVERRIDE: &[Field] = &[
    required("namespace", Shape::Text(Format::Label), "The namespace."),
    optional(
        "matchLabels",
        Shape::Map(Format::LabelKey, Format::LabelValue),
        "all its workloads",
        "Workloads in it by labels.",
    ),
    optional(
        "ports",
        Shape::List(&PORT, 0),
        "all their ports",
        "Ports of them.",
    ),
    required("mode", MODE, "What holds there."),
];

const VIP_RANGE: &[Field] = &[
    optional(
        "v4",
        Shape::Text(Format::Cidr4),
        "`240.0.0.0/4`",
        "At least 256 addresses (a /24).",
    ),
    optional(
        "v6",
        Shape::Text(Format::Cidr6),
        "`fd4d:6169:6c6c:65::/64`",
        "At least 65,536 addresses (a /112).",
    ),
];

const DEFAULTS: &[Field] = &[
    BALANCER_FIELD,
    RETRIES_FIELD,
    TIMEOUT_FIELD,
    CONNECT_TIMEOUT_FIELD,
    EJECTION_FIELD,
    LIMITS_FIELD,
];

const IDENTITY: &[Field] = &[optional(
    "leafLifetime",
    Shape::Duration,
    "24h",
    "How long a workload's certificate lives; 10m to 720h.",
)];

const DNS: &[Field] = &[optional(
    "ttl",
    Shape::Duration,
    "5s",
    "How long a resolver may keep an answer; up to 1h.",
)];
