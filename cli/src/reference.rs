//! The manual of the command line, made from the command line itself.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};

use crate::args::Arguments;

/// All commands and flags in Markdown: `docs/cli.md`.
pub fn markdown() -> String {
    let mut command = Arguments::command();
    command.build();
    let mut text = String::from(
        "# The command line\n\nMade from the code by `cargo run -p maille --example reference`; a test compares.\n",
    );
    section(&command, "maille", &[], &mut text);
    text
}

/// One command: what it does, how it is written, its arguments; then those below it. `known` are the arguments that have been explained above.
fn section(command: &Command, path: &str, known: &[String], text: &mut String) {
    let about = command
        .get_long_about()
        .or(command.get_about())
        .map(ToString::to_string)
        .unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    push(
        text,
        format_args!("\n## `{path}`\n\n{about}\n\n    {usage}\n"),
    );
    let arguments = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .collect::<Vec<_>>();
    let mut own = known.to_vec();
    for argument in arguments {
        let id = argument.get_id().to_string();
        if matches!(id.as_str(), "help" | "version")
            || (argument.is_global_set() && known.contains(&id))
        {
            continue;
        }
        push(text, format_args!("\n- {}", explain(argument)));
        own.push(id);
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if let Some(after) = command.get_after_help() {
        push(text, format_args!("\n{after}\n"));
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        section(sub, &format!("{path} {}", sub.get_name()), &own, text);
    }
}

fn explain(argument: &Arg) -> String {
    let names = argument
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(|name| format!(" {name}"))
        .collect::<String>();
    let value = if argument.get_action().takes_values() {
        names
    } else {
        String::new()
    };
    let name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}{value}"),
        (None, Some(long)) => format!("--{long}{value}"),
        (Some(short), None) => format!("-{short}{value}"),
        (None, None) => value.trim().to_string(),
    };
    let help = argument
        .get_long_help()
        .or(argument.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    let values = argument.get_possible_values();
    let named = values
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect::<Vec<_>>();
    let choices = if named.is_empty() {
        String::new()
    } else {
        format!(" One of {}.", named.join(", "))
    };
    let defaults = argument
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .filter(|value| !value.is_empty())
        .collect::<Vec<_>>();
    let shown = !defaults.is_empty()
        && argument.get_action().takes_values()
        && !argument.is_hide_default_value_set();
    let default = if shown {
        format!(" Default: `{}`.", defaults.join(", "))
    } else {
        String::new()
    };
    let end = if help.ends_with(['.', ']']) { "" } else { "." };
    format!("`{name}`: {help}{end}{choices}{default}")
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _infallible = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_manual_is_that_of_the_code() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
        let written = std::fs::read_to_string(file).unwrap();
        assert!(
            written == super::markdown(),
            "docs/cli.md is old: cargo run -p maille --example reference > docs/cli.md"
        );
    }
}
