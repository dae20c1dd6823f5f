//! Reads the fields of one mapping by name and type, and reports every field that nobody asked for.

use super::problems::Problems;
use super::values::Span;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// One mapping of the file. `finish` must be called: it reports the fields that are left.
pub(super) struct Fields<'a> {
    path: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
    problems: &'a Problems,
}

impl<'a> Fields<'a> {
    pub(super) fn root(value: Value, problems: &'a Problems) -> Self {
        Self::of(String::new(), value, problems)
    }

    fn of(path: String, value: Value, problems: &'a Problems) -> Self {
        let map = match value {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            other => {
                problems.add(
                    path.clone(),
                    format!("must be a mapping, not {}", kind_of(&other)),
                );
                Map::new()
            }
        };
        Self {
            path,
            map,
            known: Vec::new(),
            problems,
        }
    }

    /// The path of a field of this mapping.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    pub(super) fn problem(&self, name: &str, message: impl Into<String>) {
        self.problems.add(self.at(name), message);
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Whether the field is there and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// A mapping inside; an absent one reads as empty.
    pub(super) fn mapping(&mut self, name: &'static str) -> Fields<'a> {
        let path = self.at(name);
        let value = self.take(name).unwrap_or(Value::Null);
        Self::of(path, value, self.problems)
    }

    /// A list of mappings; an absent one reads as empty.
    pub(super) fn mappings(&mut self, name: &'static str) -> Vec<Fields<'a>> {
        let path = self.at(name);
        let values = self.values(name).unwrap_or_default();
        let problems = self.problems;
        let item = |(index, value)| Self::of(format!("{path}[{index}]"), value, problems);
        values.into_iter().enumerate().map(item).collect()
    }

    fn values(&mut self, name: &'static str) -> Option<Vec<Value>> {
        match self.take(name)? {
            Value::Array(values) => Some(values),
            other => {
                self.problem(name, format!("must be a list, not {}", kind_of(&other)));
                None
            }
        }
    }

    /// Text that `T` can be read from.
    pub(super) fn text<T>(&mut self, name: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let value = self.take(name)?;
        self.parse(self.at(name), value)
    }

    /// A list of texts, or one text alone. `None` where the field is absent.
    pub(super) fn texts<T>(&mut self, name: &'static str) -> Option<Vec<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let path = self.at(name);
        if self.map.get(name).is_some_and(Value::is_string) {
            return self.text(name).map(|one| vec![one]);
        }
        let values = self.values(name)?;
        let item = |(index, value)| self.parse(format!("{path}[{index}]"), value);
        Some(values.into_iter().enumerate().filter_map(item).collect())
    }

    /// The same, where whole numbers may stand for themselves.
    pub(super) fn words<T>(&mut self, name: &'static str) -> Option<Vec<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let word = |value: &mut Value| {
            if value.is_u64() {
                *value = Value::String(value.to_string());
            }
        };
        match self.map.get_mut(name) {
            Some(Value::Array(values)) => values.iter_mut().for_each(word),
            Some(value) => word(value),
            None => {}
        }
        self.texts(name)
    }

    /// A mapping of texts.
    pub(super) fn labels(&mut self, name: &'static str) -> Vec<(String, String)> {
        let inner = self.mapping(name);
        let path = inner.path.clone();
        let item = |(key, value)| {
            let text = self.parse(format!("{path}.{key}"), value)?;
            Some((key, text))
        };
        inner.map.into_iter().filter_map(item).collect()
    }

    fn parse<T>(&self, path: String, value: Value) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Value::String(text) = value else {
            let kind = kind_of(&value);
            self.problems
                .add(path, format!("must be text, not {kind}; put it in quotes"));
            return None;
        };
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.problems.add(path, format!("{text:?}: {error}"));
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(name)?;
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let (low, high) = (range.start(), range.end());
            let text = format!("{value}: must be a whole number from {low} to {high}");
            self.problem(name, text);
        }
        number
    }

    /// A duration such as `500ms`, `5s` or `2m` within `range`.
    pub(super) fn duration(
        &mut self,
        name: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let duration = self.text::<Span>(name)?.0;
        if range.contains(&duration) {
            return Some(duration);
        }
        let (low, high) = (range.start(), range.end());
        let text = format!("{duration:?}: must be between {low:?} and {high:?}");
        self.problem(name, text);
        None
    }

    /// Reports what nobody asked for.
    pub(super) fn finish(self) {
        for name in self.map.keys() {
            let known = self.known.join(", ");
            let text = format!("unknown field; the fields here are: {known}");
            self.problems.add(self.at(name), text);
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
