//! The reference of all kinds, made from the tables that check documents.

use std::fmt::Write;

use super::{
    shape::{Absent, Field, Shape},
    tables,
};
use crate::model::{Kind, kinds::AppProtocol};

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = String::from(HEAD);
    section(&mut text, "metadata", tables::METADATA);
    for kind in Kind::ALL {
        let (name, version) = (kind.name(), kind.api_version());
        put(
            &mut text,
            format_args!(
                "\n## {name}\n\n`apiVersion: {version}`, `kind: {name}`\n\n{}\n",
                tables::about(kind)
            ),
        );
        section(&mut text, "spec", tables::spec(kind));
    }
    put(
        &mut text,
        format_args!(
            "\n`appProtocol` is one of {}.\n",
            quoted(&AppProtocol::NAMES)
        ),
    );
    text
}

const HEAD: &str = "\
# What can be applied

Every kind that `maille apply -f` takes, with every field. This page is made from the tables that check what is applied
(`controller/src/language/tables`); a test keeps it in step.

Documents are YAML or JSON, several in one file with `---` between. Unknown fields are refused. A `status` beside `spec`
is allowed and not read, so that what `maille get -o yaml` shows can be applied again. Durations are written as `250ms`,
`10s`, `5m` or `1h30m`.

## metadata
";

fn section(text: &mut String, path: &str, fields: &[Field]) {
    text.push_str(
        "\n| field | what may stand there | where it is absent | meaning |\n|---|---|---|---|\n",
    );
    rows(text, path, fields);
}

fn rows(text: &mut String, path: &str, fields: &[Field]) {
    for field in fields {
        let path = format!("{path}.{}", field.name);
        let absent = match field.absent {
            Absent::Refused => "**refused**",
            Absent::Means(meaning) => meaning,
        };
        put(
            text,
            format_args!(
                "| `{path}` | {} | {absent} | {} |\n",
                describe(&field.shape),
                field.doc
            ),
        );
        children(text, &path, &field.shape);
    }
}

fn children(text: &mut String, path: &str, shape: &Shape) {
    match shape {
        Shape::Object(fields) | Shape::Tagged(fields, _) => rows(text, path, fields),
        Shape::List(item, _) => children(text, &format!("{path}[]"), item),
        _ => {}
    }
}

fn describe(shape: &Shape) -> String {
    match shape {
        Shape::Object(_) => "object".to_owned(),
        Shape::Tagged(..) => "object; `type` names the one field beside it".to_owned(),
        Shape::List(item, _) => format!("list of {}", describe(item)),
        Shape::Map(keys, values) => format!("{} → {}", keys.describe(), values.describe()),
        Shape::Text(format) => format.describe().to_owned(),
        Shape::Integer(1, 65_535) => "port".to_owned(),
        Shape::Integer(least, most) => format!("{least} to {most}"),
        Shape::Choice(words) if words.len() > 6 => "see below".to_owned(),
        Shape::Choice(words) => quoted(words),
        Shape::Duration => "duration".to_owned(),
        Shape::PortRef => "port or port name".to_owned(),
        Shape::RetryOn(words) => format!("{}, or a status", quoted(words)),
    }
}

fn quoted(words: &[&str]) -> String {
    let words = words.iter().map(|word| {
        if word.is_empty() {
            "empty".to_owned()
        } else {
            format!("`{word}`")
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("writing to a String cannot fail, it only grows");
}
