//! The file as a tree with positions, read field by field, so that every mistake is found in one pass.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::Mistake;

/// Any YAML node.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Node {
    Null(()),
    Number(u64),
    Text(String),
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
    /// What no field wants: fractions, negative numbers, truth values.
    Other(serde::de::IgnoredAny),
}

/// The file's top level. Only its fields carry positions: below them serde buffers values and loses where they stood.
pub(super) type Top = BTreeMap<String, Spanned<Node>>;

/// One mapping being read. Fields are taken out of it; what is left at the end is unknown.
pub(super) struct Fields {
    path: String,
    left: BTreeMap<String, (u64, Node)>,
}

/// Where mistakes are collected.
#[derive(Default)]
pub(super) struct Mistakes(pub(super) Vec<Mistake>);

impl Mistakes {
    pub(super) fn add(&mut self, field: impl Into<String>, line: u64, text: impl Into<String>) {
        self.0.push(Mistake {
            field: field.into(),
            line,
            text: text.into(),
        });
    }
}

/// A value together with the place that a later complaint about it names.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) field: String,
    pub(super) line: u64,
    pub(super) value: T,
}

impl Fields {
    pub(super) fn of_file(top: Top) -> Self {
        let left = top
            .into_iter()
            .map(|(name, node)| (name, (node.referenced.line(), node.value)))
            .collect();
        Self {
            path: String::new(),
            left,
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn take(&mut self, name: &str) -> Option<At<Node>> {
        let field = self.path_of(name);
        match self.left.remove(name) {
            None | Some((_, Node::Null(()))) => None,
            Some((line, value)) => Some(At { field, line, value }),
        }
    }

    pub(super) fn text(&mut self, name: &str, mistakes: &mut Mistakes) -> Option<At<String>> {
        let At { field, line, value } = self.take(name)?;
        match value {
            Node::Text(value) if !value.trim().is_empty() => Some(At { field, line, value }),
            Node::Number(value) => Some(At {
                field,
                line,
                value: value.to_string(),
            }),
            _ => {
                mistakes.add(field, line, "must be a text that is not empty");
                None
            }
        }
    }

    pub(super) fn required(
        &mut self,
        name: &str,
        why: &str,
        mistakes: &mut Mistakes,
    ) -> Option<At<String>> {
        if !self.left.contains_key(name) {
            mistakes.add(self.path_of(name), 0, format!("is missing: {why}"));
            return None;
        }
        self.text(name, mistakes)
    }

    pub(super) fn number(&mut self, name: &str, mistakes: &mut Mistakes) -> Option<At<u64>> {
        let At { field, line, value } = self.take(name)?;
        match value {
            Node::Number(value) => Some(At { field, line, value }),
            _ => {
                mistakes.add(field, line, "must be a whole number, 0 or more");
                None
            }
        }
    }

    pub(super) fn texts(&mut self, name: &str, mistakes: &mut Mistakes) -> Option<At<Vec<String>>> {
        let At { field, line, value } = self.take(name)?;
        let Node::List(items) = value else {
            mistakes.add(field, line, "must be a list");
            return None;
        };
        let mut texts = Vec::new();
        for (place, item) in items.into_iter().enumerate() {
            match item {
                Node::Text(text) if !text.trim().is_empty() => texts.push(text),
                _ => mistakes.add(
                    format!("{field}[{place}]"),
                    line,
                    "must be a text that is not empty",
                ),
            }
        }
        Some(At {
            field,
            line,
            value: texts,
        })
    }

    /// A mapping inside this one; an empty one where it is absent.
    pub(super) fn fields(&mut self, name: &str, mistakes: &mut Mistakes) -> Fields {
        let path = self.path_of(name);
        let (line, left) = match self.take(name) {
            None => (0, BTreeMap::new()),
            Some(At {
                line,
                value: Node::Map(map),
                ..
            }) => (line, map),
            Some(At { line, .. }) => {
                mistakes.add(path.clone(), line, "must be a mapping");
                (line, BTreeMap::new())
            }
        };
        Fields {
            path,
            left: left
                .into_iter()
                .map(|(name, node)| (name, (line, node)))
                .collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Complains of everything that nobody asked for.
    pub(super) fn finish(self, known: &[&str], mistakes: &mut Mistakes) {
        let known = known.join(", ");
        for (name, (line, _)) in &self.left {
            mistakes.add(
                self.path_of(name),
                *line,
                format!("is not known; there are {known}"),
            );
        }
    }
}
