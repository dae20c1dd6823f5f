//! Power is cut, and what was acknowledged is looked for: the store on a disk image that is copied while it is written.
//!
//! A child writes through the store on ext4 in a loop image and reports each acknowledgement. At a random instant it is frozen and the image is
//! copied while it is mounted: the copy has what reached the block device and nothing of what stood in memory. It is mounted (ext4 replays its
//! journal), the store is opened, and everything acknowledged must be there. A device's own volatile cache and torn sectors are not modelled.
//!
//! The child is this program itself. `POWER_CUT_SEED` repeats a run's choices.

#![allow(unreachable_pub)]

mod content;
mod cut;
mod image;
mod lie;
mod promises;
mod writer;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{bail, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;

use cut::{Life, Outcome};
use image::Workshop;
use lie::Lie;

/// Cuts that the product must stand, in lives of a few: a store that was cut must stand the next cut too.
const LIVES: usize = 10;
const CUTS_PER_LIFE: usize = 3;
/// Cuts after which a missing sync must have been found.
const FLAW_CUTS: usize = 8;

const CASES: [(&str, Lie); 3] = [
    ("nothing_acknowledged_is_lost_by_power_cuts", Lie::None),
    ("a_log_without_its_sync_is_found_to_lose_entries", Lie::Log),
    (
        "tables_without_the_sync_after_the_flush_are_found_to_lose_rows",
        Lie::Tables,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == writer::WRITER)
    {
        return writer::run(&arguments[1..]);
    }
    let is_listing = arguments.iter().any(|argument| argument == "--list");
    let words: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut failed = 0;
    for (name, lie) in CASES {
        if !words.is_empty() && !words.iter().any(|word| name.contains(*word)) {
            continue;
        }
        if is_listing {
            println!("{name}: test");
            continue;
        }
        let started = Instant::now();
        let outcome = run(lie);
        let took = started.elapsed().as_secs_f32();
        match outcome {
            Ok(figures) => println!("test {name} ... ok ({took:.0} s): {figures}"),
            Err(failure) => {
                println!("test {name} ... FAILED ({took:.0} s): {failure:#}");
                failed += 1;
            }
        }
    }
    ExitCode::from(u8::from(failed > 0))
}

fn run(lie: Lie) -> anyhow::Result<String> {
    let workshop = match Workshop::open() {
        Ok(workshop) => workshop,
        Err(reason) => {
            ensure!(
                std::env::var("CI").as_deref() != Ok("true"),
                "needed in CI: {reason:#}"
            );
            return Ok(format!("SKIPPED: {reason:#}"));
        }
    };
    let seed = std::env::var("POWER_CUT_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    eprintln!("POWER_CUT_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    match lie {
        Lie::None => sound(&workshop, &mut random),
        Lie::Log | Lie::Tables => flawed(&workshop, &mut random, lie),
    }
}

fn sound(workshop: &Workshop, random: &mut StdRng) -> anyhow::Result<String> {
    let (mut cuts, mut acknowledged) = (0, 0);
    for _ in 0..LIVES {
        let mut life = Life::begin(workshop, Lie::None)?;
        for _ in 0..CUTS_PER_LIFE {
            let outcome = life.cut(random)?;
            cuts += 1;
            match outcome {
                Outcome::Kept { promises } => acknowledged += promises,
                Outcome::Broken(findings) => bail!("cut {cuts}: {}", findings.join("; ")),
            }
        }
    }
    Ok(format!(
        "{cuts} cuts, {acknowledged} acknowledged, none lost, every store opened"
    ))
}

fn flawed(workshop: &Workshop, random: &mut StdRng, lie: Lie) -> anyhow::Result<String> {
    for cut in 1..=FLAW_CUTS {
        let outcome = Life::begin(workshop, lie)?.cut(random)?;
        if let Outcome::Broken(findings) = outcome {
            return Ok(format!("found at cut {cut}: {}", findings.join("; ")));
        }
    }
    bail!("{FLAW_CUTS} cuts, and nothing was found")
}
