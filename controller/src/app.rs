//! The process: its command line, and the wiring of all parts in the order in which they start.

mod arguments;
mod clients;
mod commands;
mod consensus;
mod controller;
mod engine;
mod failure;
mod gauges;
mod hardening;
mod inspect;
mod live;
mod loads;
mod mesh_port;
mod newcomer;
mod ports;
mod preview;
mod readiness;
mod reads;
mod restore;
mod signals;
mod spread;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
pub use engine::Engine;
pub use failure::{EXIT_CODES, Failure};

/// The whole process, from its command line to its exit code.
pub fn main() -> ExitCode {
    end(commands::dispatch(Arguments::parse().command))
}

/// `maille-controller run --config <config>`, over another engine than the product's.
pub fn run(config: &Path, engine: Engine) -> ExitCode {
    end(commands::run(config, engine))
}

fn end(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure);
            failure.exit_code()
        }
    }
}

/// One line a cause; a cause that only repeats what was said is left out.
fn report(failure: &Failure) {
    let mut said = failure.to_string();
    eprintln!("error: {said}");
    let mut cause = failure.source();
    while let Some(because) = cause {
        let text = because.to_string();
        if !said.contains(&text) {
            eprintln!("  because: {text}");
        }
        said = text;
        cause = because.source();
    }
}
