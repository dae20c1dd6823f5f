//! Controllers are killed, and what was acknowledged is looked for: `kill -9` at random under many writers, on real disks.
//!
//! This program is also the controller that it kills: started as `kills controller …` it runs the product's own `app` over the engine of a
//! variant. Without arguments it runs every case; a word runs the cases that have it in their name. `KILLS_SEED` repeats a run's choices,
//! `KILLS_ROUNDS` and `KILLS_WRITES` change the length of the long case, and `KILLS_VARIANT=early-flush` makes it fail.

#![allow(unreachable_pub)]

mod admin;
mod case;
mod cluster;
mod early_log;
mod evidence;
mod variant;
mod writers;

use std::process::ExitCode;
use std::time::Instant;

use case::Case;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == variant::CONTROLLER)
    {
        return variant::controller(&arguments[1..]);
    }
    let is_listing = arguments.iter().any(|argument| argument == "--list");
    let words: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_wanted =
        |case: &Case| words.is_empty() || words.iter().any(|word| case.name().contains(*word));
    let mut failed = 0;
    for case in Case::ALL.into_iter().filter(is_wanted) {
        if is_listing {
            println!("{}: test", case.name());
            continue;
        }
        let started = Instant::now();
        let outcome = case.run();
        let took = started.elapsed().as_secs_f32();
        match outcome {
            Ok(figures) => println!("test {} ... ok ({took:.0} s): {figures}", case.name()),
            Err(failure) => {
                println!("test {} ... FAILED ({took:.0} s): {failure:#}", case.name());
                failed += 1;
            }
        }
    }
    ExitCode::from(u8::from(failed > 0))
}
