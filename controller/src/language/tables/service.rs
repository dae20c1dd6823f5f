//! The fields of `Service`.

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
        "type",
        Shape::Choice(&["ClusterIP"]),
        "`ClusterIP`",
        "The one type: a virtual IP inside the mesh.",
    ),
    optional(
        "selector",
        Shape::Map(Format::LabelKey, Format::LabelValue),
        "no endpoints",
        "Labels that a workload must have to be an endpoint.",
    ),
    required(
        "ports",
        Shape::List(&Shape::Object(SERVICE_PORT), 1),
        "At least one port.",
    ),
];

const SERVICE_PORT: &[Field] = &[
    optional(
        "name",
        Shape::Text(Format::PortName),
        "none",
        "Needed where there are several ports.",
    ),
    required("port", PORT, "What clients connect to."),
    optional(
        "targetPort",
        Shape::PortRef,
        "the same as `port`",
        "What the workload listens on: a number, or a name that the workload gives.",
    ),
    optional(
        "appProtocol",
        Shape::Choice(&AppProtocol::NAMES),
        "found by detection",
        "What is spoken. Set `tcp` for protocols in which the server speaks first.",
    ),
    optional(
        "protocol",
        Shape::Choice(&["TCP"]),
        "`TCP`",
        "The transport.",
    ),
];
