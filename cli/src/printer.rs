//! How results reach people and programs: tables, JSON or YAML on standard output; everything else is talk and goes to standard error.

use std::io::Write;

use anstream::{AutoStream, stderr, stdout};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// The forms of `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// The same with every column.
    Wide,
    /// One JSON value.
    Json,
    /// One YAML document.
    Yaml,
}

/// Where a command puts its results.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    format: Format,
}

/// A table's rows, and which of its columns only `-o wide` shows.
#[derive(Debug, Default)]
pub struct Rows {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Column {
    title: String,
    wide: bool,
}

impl Rows {
    /// A table with these columns.
    pub fn new<T: Into<String>>(columns: impl IntoIterator<Item = T>) -> Rows {
        let columns = columns
            .into_iter()
            .map(|title| Column {
                title: title.into(),
                wide: false,
            })
            .collect();
        Rows {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds columns that only `-o wide` shows.
    #[must_use]
    pub fn wide<T: Into<String>>(mut self, columns: impl IntoIterator<Item = T>) -> Rows {
        self.columns.extend(columns.into_iter().map(|title| Column {
            title: title.into(),
            wide: true,
        }));
        self
    }

    /// Adds a row: one cell a column, the wide ones too.
    pub fn push<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table as text.
    pub fn render(&self, wide: bool) -> String {
        let shown = |index: usize| {
            self.columns
                .get(index)
                .is_none_or(|column| wide || !column.wide)
        };
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(
            self.columns
                .iter()
                .filter(|column| wide || !column.wide)
                .map(|column| column.title.to_uppercase()),
        );
        for row in &self.rows {
            table.add_row(
                row.iter()
                    .enumerate()
                    .filter(|(index, _)| shown(*index))
                    .map(|(_, cell)| cell.clone()),
            );
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table
            .lines()
            .map(|line| line.trim_end().to_string() + "\n")
            .collect()
    }
}

impl Printer {
    /// A printer of this format.
    pub fn new(format: Format) -> Printer {
        Printer { format }
    }

    /// The form asked for.
    pub fn format(self) -> Format {
        self.format
    }

    /// Whether a program reads the output.
    pub fn for_programs(self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// Prints a result: `value` for programs, `rows` for people.
    pub fn result<T: Serialize>(self, value: &T, rows: impl FnOnce() -> Rows) -> Outcome {
        match self.format {
            Format::Table => data(&rows().render(false)),
            Format::Wide => data(&rows().render(true)),
            Format::Json | Format::Yaml => self.value(value),
        }
    }

    /// Prints a result: `value` for programs, free text for people.
    pub fn text<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) -> Outcome {
        if self.for_programs() {
            self.value(value)
        } else {
            data(&text())
        }
    }

    fn value<T: Serialize>(self, value: &T) -> Outcome {
        let text = if self.format == Format::Yaml {
            serde_saphyr::to_string(value)
                .map_err(|error| Failure::failed("write the result as YAML").caused_by(error))?
        } else {
            serde_json::to_string_pretty(value)
                .map_err(|error| Failure::failed("write the result as JSON").caused_by(error))?
                + "\n"
        };
        data(&text)
    }
}

/// Writes data to standard output. A reader that has gone away (`| head`) is no error.
pub fn data(text: &str) -> Outcome {
    match stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed("write to standard output").caused_by(error))
        }
        _ => Ok(()),
    }
}

/// Says something to the person at the terminal. If standard error is gone there is nobody to tell.
pub fn say(text: &str) {
    let _nobody_to_tell = writeln!(stderr().lock(), "{text}");
}

/// Says that the command failed: the word first, so that nothing hangs on colour.
pub fn say_failure(failure: &Failure) {
    let mut err = AutoStream::auto(std::io::stderr());
    let _nobody_to_tell = writeln!(err, "\x1b[31;1merror:\x1b[0m {failure}");
}

/// A time on the wire (Unix seconds) as RFC 3339, `-` for none.
pub fn time(unix_seconds: i64) -> String {
    match jiff::Timestamp::from_second(unix_seconds) {
        Ok(time) if unix_seconds != 0 => time.to_string(),
        _ => "-".to_string(),
    }
}

/// A text, or `-` where it is empty: an empty cell would shift what the eye, and awk, take for columns.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_string()
    } else {
        text.to_string()
    }
}

/// `yes` or `no`.
pub fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Rows {
        let mut rows = Rows::new(["name", "role"]).wide(["lag"]);
        rows.push(["c1", "leader", "0"]);
        rows.push(["controller-2", "voter", "12"]);
        rows
    }

    #[test]
    fn a_table_hides_the_wide_columns() {
        assert_eq!(
            members().render(false),
            "NAME          ROLE\nc1            leader\ncontroller-2  voter\n"
        );
    }

    #[test]
    fn wide_shows_every_column() {
        assert_eq!(
            members().render(true),
            "NAME          ROLE    LAG\nc1            leader  0\ncontroller-2  voter   12\n"
        );
    }

    #[test]
    fn a_missing_time_is_a_dash() {
        assert_eq!(time(0), "-");
        assert_eq!(time(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
