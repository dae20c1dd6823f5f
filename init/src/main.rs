//! `maille-init`: reads the command line, does one thing, and ends with a documented exit code.

use std::process::ExitCode;

use clap::Parser;
use maille_init::{apply, args::Args};

fn main() -> ExitCode {
    let args = Args::parse();
    match apply::run(&args) {
        Ok(outcome) => {
            for note in &outcome.notes {
                eprintln!("maille-init: {note}");
            }
            print!("{}", outcome.data);
            ExitCode::from(outcome.code)
        }
        Err(failure) => {
            eprintln!("maille-init: {failure}");
            eprintln!("{}", failure.remedy());
            ExitCode::from(failure.exit_code())
        }
    }
}
