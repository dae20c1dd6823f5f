//! What a write did, object by object.

use serde::Serialize;
use xds_api::generated::maille::v1::{self as api, object_result};

use crate::failure::Outcome;
use crate::printer::{Printer, Rows, say};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    index: u64,
    dry_run: bool,
    results: Vec<Line>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    kind: String,
    namespace: String,
    name: String,
    outcome: &'static str,
}

/// Prints the answer of a write.
pub(super) fn print(
    printer: Printer,
    index: u64,
    results: Vec<api::ObjectResult>,
    warnings: Vec<String>,
    dry_run: bool,
) -> Outcome {
    for warning in &warnings {
        say(&format!("warning: {warning}"));
    }
    let results = results.into_iter().map(line).collect();
    let written = Written {
        index,
        dry_run,
        results,
        warnings,
    };
    printer.result(&written, || {
        let mut rows = Rows::new(["kind", "namespace", "name", "outcome"]);
        for line in &written.results {
            rows.push([&line.kind, &line.namespace, &line.name, line.outcome]);
        }
        rows
    })?;
    if !printer.for_programs() {
        say(&if dry_run {
            "nothing was written (--dry-run)".to_string()
        } else {
            format!("in force at mesh index {index}")
        });
    }
    Ok(())
}

fn line(result: api::ObjectResult) -> Line {
    let outcome = match result.outcome() {
        object_result::Outcome::Unchanged => "unchanged",
        object_result::Outcome::Created => "created",
        object_result::Outcome::Configured => "configured",
        object_result::Outcome::Deleted => "deleted",
    };
    Line {
        kind: result.kind,
        namespace: result.namespace,
        name: result.name,
        outcome,
    }
}
