//! What every object has: its name and what is pinned to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_default;

/// An object's name, its namespace and what is pinned to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// An RFC 1123 label, unique within kind and namespace.
    pub name: String,
    /// Always written; input without one goes to `default`.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// What selectors match.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Kept and shown, never interpreted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// Where an object lives that names no namespace.
pub const DEFAULT_NAMESPACE: &str = "default";

fn default_namespace() -> String {
    DEFAULT_NAMESPACE.to_owned()
}

/// Whether `labels` satisfy a selector. An empty selector selects nothing, as in core `Service`.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
}
