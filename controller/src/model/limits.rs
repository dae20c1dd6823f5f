//! Every bound of the state, with its reason.

/// A single object's JSON: what a route of a thousand rules needs, and small beside a log entry.
pub const OBJECT_BYTES: usize = 256 * 1024;
/// Objects that one write may touch: a whole small mesh at once, while the entry stays within a few megabytes.
pub const OBJECTS_PER_WRITE: usize = 10_000;
/// Objects that one rollout may change: they are put anew with every change of the mesh while it is under way.
pub const STAGED_OBJECTS: usize = 256;
/// Virtual addresses are not assigned again for so many log entries: clients that cached one must have forgotten it.
pub const VIP_QUARANTINE_ENTRIES: u64 = 10_000;
/// Writers whose last answer is remembered: far more than write at once.
pub const CLIENTS: usize = 10_000;
/// Log entries after which a writer's last answer is forgotten: no writer retries for that long.
pub const CLIENT_ENTRIES: u64 = 100_000;
/// How long a token is remembered after it expired, so that "expired" and "used" are told from "unknown".
pub const TOKEN_KEPT_SECONDS: i64 = 24 * 3600;
/// Tokens at a time: one per host of the largest mesh that is foreseen.
pub const TOKENS: usize = 100_000;
/// What one log entry may forget of each kind: keeps `apply` short when a clock jumps.
pub const EXPIRIES_PER_ENTRY: usize = 256;
/// Addresses of an instance: a host has a handful.
pub const INSTANCE_ADDRESSES: usize = 16;
/// Ports of an instance.
pub const INSTANCE_PORTS: usize = 256;
/// Labels of an instance.
pub const INSTANCE_LABELS: usize = 64;
/// Members: five voters and learners for fan-out.
pub const MEMBERS: usize = 64;
/// Roots: one, and two during a rotation; more would only grow every handshake.
pub const ROOTS: usize = 4;
