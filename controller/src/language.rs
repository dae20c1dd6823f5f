//! What a person writes, as objects of the mesh: YAML or JSON, one or several documents.
//!
//! Everything that is wrong is reported at once, with file, line, column, the field's path and what to do. A document
//! is read as a tree, walked along its kind's table of fields, turned into its strict type, and looked at as a whole.
//! Whether objects fit to each other and to the mesh is `model::relations`' question, and asked where they are written.

pub mod check;
pub mod format;
pub mod kind;
pub mod node;
pub mod problem;
pub mod reference;
pub mod shape;
pub mod tables;

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{
    AnyObject, Kind, Name, ObjectKey,
    kinds::{
        http_route::{BackendRef, ParentRef},
        mesh_settings::{SETTINGS_NAME, SETTINGS_NAMESPACE},
    },
};
use node::{Node, Position, Value};
use problem::Findings;
pub use problem::Problem;
use shape::{Shape, walk};

/// What a set of documents says.
#[derive(Debug, Default)]
pub struct Reading {
    /// The objects, in the order of the text; complete only where there are no problems.
    pub objects: Vec<Written>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// What is legal and probably not meant.
    pub warnings: Vec<Problem>,
}

/// An object and where it was written.
#[derive(Debug)]
pub struct Written {
    /// What it is called.
    pub key: ObjectKey,
    /// The object.
    pub object: AnyObject,
    file: String,
    node: Node,
}

impl Written {
    /// A problem with a field of this object, at the field's place in the text.
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            position: self.node.nearest(path),
            path: path.to_owned(),
            message: message.into(),
        }
    }
}

/// Reads files; each is a name as the user gave it, and a text.
pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Reading {
    let mut reading = Reading::default();
    let mut seen: BTreeMap<ObjectKey, (String, Position)> = BTreeMap::new();
    for (file, text) in files {
        let (nodes, unreadable) = node::read(file, text);
        for node in nodes {
            let mut findings = Findings::default();
            let object = document(&node, &mut findings);
            reading.problems.extend(
                findings
                    .errors
                    .into_iter()
                    .map(|finding| finding.in_file(file)),
            );
            reading.warnings.extend(
                findings
                    .warnings
                    .into_iter()
                    .map(|finding| finding.in_file(file)),
            );
            let Some(object) = object else { continue };
            let written = Written {
                key: key(&object),
                object,
                file: file.to_owned(),
                node,
            };
            match seen.get(&written.key) {
                Some((file, position)) => {
                    let message = format!(
                        "{} stands twice, first at {file}:{}; leave one out",
                        written.key, position.line
                    );
                    reading
                        .problems
                        .push(written.problem("metadata.name", message));
                }
                None => {
                    seen.insert(
                        written.key.clone(),
                        (file.to_owned(), written.node.position),
                    );
                    reading.objects.push(written);
                }
            }
        }
        reading.problems.extend(unreadable);
    }
    reading
}

fn key(object: &AnyObject) -> ObjectKey {
    let metadata = object.metadata();
    ObjectKey::new(
        object.kind(),
        Name::new(metadata.namespace.as_str(), metadata.name.as_str()),
    )
}

fn document(node: &Node, findings: &mut Findings) -> Option<AnyObject> {
    let Value::Map(entries) = &node.value else {
        let message = format!(
            "an object with apiVersion, kind, metadata and spec belongs here, not {}",
            node.describe()
        );
        findings.error(node.position, "", message);
        return None;
    };
    let kind = kind::of(node, findings)?;
    for (key, value) in entries {
        match key.name.as_str() {
            // What `maille get` shows can be applied again; status is never input.
            "apiVersion" | "kind" | "status" => {}
            "metadata" => metadata(value, kind, findings),
            "spec" => walk(value, &Shape::Object(tables::spec(kind)), "spec", findings),
            other => {
                let message = format!(
                    "there is no field `{other}`; known here: apiVersion, kind, metadata, spec"
                );
                findings.error(key.position, other, message);
            }
        }
    }
    for field in ["metadata", "spec"] {
        if node.get(field).is_none() {
            findings.error(node.position, field, format!("`{field}` is missing"));
        }
    }
    if !findings.errors.is_empty() {
        return None;
    }
    let object = typed(node, kind, findings)?;
    check::object(&object, node, findings);
    findings.errors.is_empty().then_some(object)
}

/// What Kubernetes writes into metadata by itself, and exports carry.
const SERVER_FIELDS: [&str; 9] = [
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

fn metadata(node: &Node, kind: Kind, findings: &mut Findings) {
    let Value::Map(entries) = &node.value else {
        walk(node, &Shape::Object(tables::METADATA), "metadata", findings);
        return;
    };
    let mut own = Vec::new();
    for (key, value) in entries {
        if SERVER_FIELDS.contains(&key.name.as_str()) {
            let message = format!(
                "`{}` is written by a Kubernetes API server; take it out",
                key.name
            );
            findings.error(key.position, shape::join("metadata", &key.name), message);
        } else {
            own.push((key.clone(), value.clone()));
        }
    }
    let own = Node {
        value: Value::Map(own),
        position: node.position,
    };
    walk(&own, &Shape::Object(tables::METADATA), "metadata", findings);
    if kind == Kind::MeshSettings {
        settings_place(&own, findings);
    }
}

fn settings_place(metadata: &Node, findings: &mut Findings) {
    for (field, only) in [("name", SETTINGS_NAME), ("namespace", SETTINGS_NAMESPACE)] {
        let Some(node) = metadata.get(field) else {
            continue;
        };
        if node.text().is_some_and(|text| text != only) {
            let message = format!("there is one MeshSettings; its {field} is `{only}`");
            findings.error(node.position, format!("metadata.{field}"), message);
        }
    }
}

fn typed(node: &Node, kind: Kind, findings: &mut Findings) -> Option<AnyObject> {
    let mut json = node.to_json();
    if let Some(object) = json.as_object_mut() {
        object.remove("status");
    }
    if kind == Kind::MeshSettings {
        json["metadata"]["namespace"] = SETTINGS_NAMESPACE.into();
    }
    match AnyObject::from_json(kind, &json.to_string()) {
        Ok(object) => Some(canonical(object)),
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            findings.error(
                node.position,
                "",
                format!("this does not read as {kind}: {cause}"),
            );
            None
        }
    }
}

/// One meaning, one text: the long name of the core group is its short one.
fn canonical(object: AnyObject) -> AnyObject {
    match object {
        AnyObject::HttpRoute(route) => {
            let mut route = Arc::unwrap_or_clone(route);
            let rules = route.spec.rules.iter_mut();
            let backends = rules.flat_map(|rule| &mut rule.backend_refs);
            short(&mut route.spec.parent_refs, backends);
            AnyObject::HttpRoute(route.into())
        }
        AnyObject::GrpcRoute(route) => {
            let mut route = Arc::unwrap_or_clone(route);
            let rules = route.spec.rules.iter_mut();
            let backends = rules.flat_map(|rule| &mut rule.backend_refs);
            short(&mut route.spec.parent_refs, backends);
            AnyObject::GrpcRoute(route.into())
        }
        other => other,
    }
}

fn short<'a>(parents: &mut [ParentRef], backends: impl Iterator<Item = &'a mut BackendRef>) {
    let parents = parents.iter_mut().map(|parent| &mut parent.group);
    let groups = parents.chain(backends.map(|backend| &mut backend.group));
    for group in groups.filter(|group| *group == "core") {
        group.clear();
    }
}

#[cfg(test)]
mod tests;
