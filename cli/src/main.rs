//! The process `maille`: reads the command line, runs one command, maps its outcome to an exit code.

use std::process::ExitCode;

use clap::Parser;
use maille::args::Arguments;
use maille::commands;
use maille::failure::Failure;
use maille::printer::say_failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread: the work of the CLI is waiting. Applications of the demo that need more make their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(arguments)),
        Err(error) => Err(Failure::failed("start the runtime").caused_by(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say_failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}
