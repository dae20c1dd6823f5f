//! What fields there are and what may stand in them: one table checks documents and makes the reference.
//!
//! A walk over a document reports everything that is wrong with it. What passes always reads as its kind.

use super::{
    format::Format,
    node::{Node, Value},
    problem::Findings,
};
use crate::model::{kinds::Duration, relations::edit_distance};

/// What may stand in a place.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Named fields.
    Object(&'static [Field]),
    /// Named fields, of which `type` names the one that must be there beside it.
    Tagged(&'static [Field], &'static [(&'static str, &'static str)]),
    /// A list of at least so many.
    List(&'static Shape, usize),
    /// Free keys of one format with values of another.
    Map(Format, Format),
    /// Text of a format.
    Text(Format),
    /// A whole number within bounds.
    Integer(i128, i128),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `10s`, `1h30m`, `250ms`.
    Duration,
    /// A port's number or name.
    PortRef,
    /// A condition for a retry: one of these words, or a status code.
    RetryOn(&'static [&'static str]),
}

/// A field of an object.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As documents write it.
    pub name: &'static str,
    /// What may stand in it.
    pub shape: Shape,
    /// What holds where it is absent.
    pub absent: Absent,
    /// One sentence for the reference.
    pub doc: &'static str,
}

/// What an absent field means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It must be there.
    Refused,
    /// This holds.
    Means(&'static str),
}

/// A port's number.
pub const PORT: Shape = Shape::Integer(1, 65_535);

/// Reports everything in `node` that is not of this shape.
pub(super) fn walk(node: &Node, shape: &Shape, path: &str, findings: &mut Findings) {
    if matches!(node.value, Value::Null) {
        findings.error(
            node.position,
            path,
            "there is no value here; give one, or take the field out",
        );
        return;
    }
    match shape {
        Shape::Object(fields) => walk_object(node, fields, path, findings),
        Shape::Tagged(fields, variants) => {
            walk_object(node, fields, path, findings);
            walk_tag(node, variants, path, findings);
        }
        Shape::List(item, least) => walk_list(node, item, *least, path, findings),
        Shape::Map(keys, values) => walk_map(node, *keys, *values, path, findings),
        Shape::Text(format) => walk_text(node, *format, path, findings),
        Shape::Integer(least, most) => walk_integer(node, *least, *most, path, findings),
        Shape::Choice(words) => walk_choice(node, words, path, findings),
        Shape::Duration => walk_duration(node, path, findings),
        Shape::PortRef if node.text().is_some() => {
            walk_text(node, Format::PortName, path, findings)
        }
        Shape::PortRef => walk_integer(node, 1, 65_535, path, findings),
        Shape::RetryOn(words) if node.text().is_some() => walk_choice(node, words, path, findings),
        Shape::RetryOn(_) => walk_integer(node, 400, 599, path, findings),
    }
}

fn walk_object(node: &Node, fields: &[Field], path: &str, findings: &mut Findings) {
    let Value::Map(entries) = &node.value else {
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        let message = format!(
            "an object with {} belongs here, not {}",
            names.join(", "),
            node.describe()
        );
        findings.error(node.position, path, message);
        return;
    };
    for (index, (key, value)) in entries.iter().enumerate() {
        let here = join(path, &key.name);
        if entries[..index]
            .iter()
            .any(|(earlier, _)| earlier.name == key.name)
        {
            findings.error(
                key.position,
                here,
                format!("`{}` stands twice; leave one out", key.name),
            );
            continue;
        }
        match fields.iter().find(|field| field.name == key.name) {
            Some(field) => walk(value, &field.shape, &here, findings),
            None => findings.error(key.position, here, unknown_field(&key.name, fields)),
        }
    }
    for field in fields
        .iter()
        .filter(|field| field.absent == Absent::Refused)
    {
        if node.get(field.name).is_none() {
            let message = format!("`{}` is missing: {}", field.name, field.doc);
            findings.error(node.position, join(path, field.name), message);
        }
    }
}

fn unknown_field(name: &str, fields: &[Field]) -> String {
    let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
    match nearest(name, &known) {
        Some(near) => format!(
            "there is no field `{name}`; did you mean `{near}`? Known here: {}",
            known.join(", ")
        ),
        None => format!(
            "there is no field `{name}`; known here: {}",
            known.join(", ")
        ),
    }
}

fn walk_tag(node: &Node, variants: &[(&str, &str)], path: &str, findings: &mut Findings) {
    let Some(tag) = node.get("type").and_then(Node::text) else {
        return;
    };
    let Some((_, wanted)) = variants.iter().find(|(name, _)| *name == tag) else {
        return;
    };
    if node.get(wanted).is_none() {
        let message = format!("a {tag} needs the field `{wanted}`");
        findings.error(node.position, join(path, wanted), message);
    }
    for (_, other) in variants.iter().filter(|(_, field)| field != wanted) {
        if let Some(value) = node.get(other) {
            let message =
                format!("`{other}` does not belong to type {tag}; take it out, or change the type");
            findings.error(value.position, join(path, other), message);
        }
    }
}

fn walk_list(node: &Node, item: &Shape, least: usize, path: &str, findings: &mut Findings) {
    let Value::List(items) = &node.value else {
        findings.error(
            node.position,
            path,
            format!("a list belongs here, not {}", node.describe()),
        );
        return;
    };
    if items.len() < least {
        findings.error(
            node.position,
            path,
            "the list is empty; at least one belongs here",
        );
    }
    for (index, value) in items.iter().enumerate() {
        walk(value, item, &format!("{path}[{index}]"), findings);
    }
}

fn walk_map(node: &Node, keys: Format, values: Format, path: &str, findings: &mut Findings) {
    let Value::Map(entries) = &node.value else {
        findings.error(
            node.position,
            path,
            format!("keys with values belong here, not {}", node.describe()),
        );
        return;
    };
    for (index, (key, value)) in entries.iter().enumerate() {
        let here = join(path, &key.name);
        if entries[..index]
            .iter()
            .any(|(earlier, _)| earlier.name == key.name)
        {
            findings.error(
                key.position,
                here.as_str(),
                format!("`{}` stands twice; leave one out", key.name),
            );
        }
        if let Err(message) = keys.check(&key.name) {
            findings.error(key.position, here.as_str(), message);
        }
        walk_text(value, values, &here, findings);
    }
}

fn walk_text(node: &Node, format: Format, path: &str, findings: &mut Findings) {
    match (&node.value, node.text()) {
        (_, Some(text)) => {
            if let Err(message) = format.check(text) {
                findings.error(node.position, path, message);
            }
        }
        (Value::List(_) | Value::Map(_), None) => {
            findings.error(
                node.position,
                path,
                format!("text belongs here, not {}", node.describe()),
            );
        }
        _ => {
            let message = format!(
                "text belongs here, not {}; write it in quotes",
                node.describe()
            );
            findings.error(node.position, path, message);
        }
    }
}

fn walk_integer(node: &Node, least: i128, most: i128, path: &str, findings: &mut Findings) {
    match node.value {
        Value::Integer(number) if (least..=most).contains(&number) => {}
        Value::Integer(number) => {
            findings.error(
                node.position,
                path,
                format!("{number} is out of range; write {least} to {most}"),
            );
        }
        _ => {
            let message = format!(
                "a whole number from {least} to {most} belongs here, not {}",
                node.describe()
            );
            findings.error(node.position, path, message);
        }
    }
}

fn walk_choice(node: &Node, words: &[&str], path: &str, findings: &mut Findings) {
    let Some(text) = node.text() else {
        let message = format!(
            "one of {} belongs here, not {}",
            words.join(", "),
            node.describe()
        );
        findings.error(node.position, path, message);
        return;
    };
    if words.contains(&text) {
        return;
    }
    let known = words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ");
    let message = match (words, nearest(text, words)) {
        ([only], _) => format!("`{text}` is not known here; write `{only}`"),
        (_, Some(near)) => {
            format!("`{text}` is not known here; did you mean `{near}`? There are {known}")
        }
        (_, None) => format!("`{text}` is not known here; write one of {known}"),
    };
    findings.error(node.position, path, message);
}

fn walk_duration(node: &Node, path: &str, findings: &mut Findings) {
    match (&node.value, node.text()) {
        (_, Some(text)) => {
            if let Err(error) = text.parse::<Duration>() {
                findings.error(node.position, path, error.to_string());
            }
        }
        (Value::Integer(number), None) => {
            let message = format!("{number} has no unit; write `{number}s` or `{number}ms`");
            findings.error(node.position, path, message);
        }
        _ => {
            let message = format!(
                "a duration such as `10s` belongs here, not {}",
                node.describe()
            );
            findings.error(node.position, path, message);
        }
    }
}

/// The known word that is nearest, where one is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let near = known
        .iter()
        .map(|known| (edit_distance(&lower, &known.to_lowercase()), *known));
    let (distance, near) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.min(word.len() / 2).max(1)).then_some(near)
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
