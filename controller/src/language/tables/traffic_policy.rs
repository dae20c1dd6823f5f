//! The fields of `TrafficPolicy`.

use super::{TARGET_REF, optional, required};
use crate::language::{
    format::Format,
    shape::{Field, Shape},
};

pub(super) const SPEC: &[Field] = &[
    required(
        "targetRef",
        Shape::Object(TARGET_REF),
        "The Service that it is for.",
    ),
    BALANCER_FIELD,
    RETRIES_FIELD,
    TIMEOUT_FIELD,
    CONNECT_TIMEOUT_FIELD,
    EJECTION_FIELD,
    LIMITS_FIELD,
];

pub(super) const BALANCER_FIELD: Field = optional(
    "balancer",
    Shape::Object(BALANCER),
    "`peakEwma`",
    "How an endpoint is chosen.",
);
pub(super) const RETRIES_FIELD: Field = optional(
    "retries",
    Shape::Object(RETRIES),
    "off",
    "When a failed attempt is made again.",
);
pub(super) const TIMEOUT_FIELD: Field = optional(
    "timeout",
    Shape::Duration,
    "none",
    "For a whole request, retries included; a route's own wins. `0s` means none.",
);
pub(super) const CONNECT_TIMEOUT_FIELD: Field = optional(
    "connectTimeout",
    Shape::Duration,
    "1s",
    "For a TCP connect and the handshake.",
);
pub(super) const EJECTION_FIELD: Field = optional(
    "ejection",
    Shape::Object(EJECTION),
    "off",
    "When an endpoint that fails is left out for a while.",
);
pub(super) const LIMITS_FIELD: Field = optional(
    "limits",
    Shape::Object(LIMITS),
    "none",
    "What one proxy may have open to the Service.",
);

const BALANCER: &[Field] = &[
    optional(
        "type",
        Shape::Choice(&[
            "peakEwma",
            "leastRequest",
            "roundRobin",
            "ringHash",
            "maglev",
        ]),
        "`peakEwma`",
        "`peakEwma` and `leastRequest` take the better of two random endpoints; `ringHash` and `maglev` keep a client at one endpoint.",
    ),
    optional(
        "hashHeader",
        Shape::Text(Format::HeaderName),
        "the client's address",
        "For `ringHash` and `maglev`: the request header that is hashed.",
    ),
];

const RETRY_WORDS: &[&str] = &[
    "5xx",
    "gateway-error",
    "connect-failure",
    "reset",
    "refused-stream",
    "cancelled",
    "deadline-exceeded",
    "resource-exhausted",
    "unavailable",
    "internal",
];

const RETRIES: &[Field] = &[
    required(
        "attempts",
        Shape::Integer(0, 10),
        "Retries after the first attempt; 0 turns them off.",
    ),
    optional(
        "on",
        Shape::List(&Shape::RetryOn(RETRY_WORDS), 0),
        "connect-failure, refused-stream, gateway-error",
        "What counts as a failure that may be tried again; a number is a status code.",
    ),
    optional("perTryTimeout", Shape::Duration, "none", "For one attempt."),
    optional(
        "backoff",
        Shape::Object(BACKOFF),
        "25ms, at most 250ms",
        "The pause before a retry, doubled each time, with full jitter.",
    ),
    optional(
        "budget",
        Shape::Object(BUDGET),
        "20 %, at least 3 at a time",
        "What retries may cost.",
    ),
];

const BACKOFF: &[Field] = &[
    required("base", Shape::Duration, "Before the first retry."),
    optional(
        "max",
        Shape::Duration,
        "ten times `base`",
        "The longest pause.",
    ),
];

const BUDGET: &[Field] = &[
    required(
        "percent",
        Shape::Integer(0, 100),
        "Retries in flight, as a share of the requests in flight.",
    ),
    optional(
        "minConcurrency",
        Shape::Integer(0, 10_000),
        "3",
        "Retries that may run whatever the share.",
    ),
];

const EJECTION: &[Field] = &[
    required(
        "consecutiveErrors",
        Shape::Integer(0, 1_000),
        "Failures in a row (5xx or connection errors); 0 turns ejection off.",
    ),
    optional(
        "interval",
        Shape::Duration,
        "10s",
        "Between two looks at who may come back.",
    ),
    optional(
        "baseTime",
        Shape::Duration,
        "30s",
        "The first time out; it grows with each ejection.",
    ),
    optional("maxTime", Shape::Duration, "5m", "The longest time out."),
    optional(
        "maxPercent",
        Shape::Integer(0, 100),
        "50",
        "At most this share of the endpoints is out.",
    ),
];

const LIMITS: &[Field] = &[
    optional(
        "maxConnections",
        Shape::Integer(1, 1_000_000),
        "none",
        "Connections.",
    ),
    optional(
        "maxPendingRequests",
        Shape::Integer(1, 1_000_000),
        "none",
        "Requests that wait for a connection.",
    ),
    optional(
        "maxRequests",
        Shape::Integer(1, 1_000_000),
        "none",
        "Requests in flight.",
    ),
];
