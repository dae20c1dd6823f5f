//! Thousands of delta streams with TLS on one of three controllers, real Envoys among them: how soon one changed endpoint is acknowledged by
//! all, what a push costs the server in CPU, what a stream costs it in memory, and how soon all are served again after the controller
//! was killed. `make bench` runs it; `STREAMS` (sizes, with commas), `ENVOYS` and `CHANGES` make it shorter.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod anchors;
mod fleet;
mod generator;
mod measure;
mod setting;

use anyhow::Context;

use crate::measure::Figures;
use crate::setting::Setting;

/// The sizes that are measured, unless `STREAMS` says others.
const SIZES: &str = "1000,5000,10000";
/// Real Envoys, each with its agent; 66 MB apiece.
const ENVOYS: usize = 20;
/// How many endpoint changes; figures are over all of them.
const CHANGES: usize = 30;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("generate") => {
            let plan = arguments.get(2).context("a generator has a plan")?;
            generator::run(&serde_json::from_str(plan)?)
        }
        _ => bench(),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn bench() -> anyhow::Result<()> {
    setting::raise_open_files()?;
    let sizes = std::env::var("STREAMS").unwrap_or_else(|_| SIZES.to_owned());
    let (envoys, changes) = (number("ENVOYS", ENVOYS)?, number("CHANGES", CHANGES)?);
    let mut setting = Setting::prepare(envoys).await?;
    println!(
        "Delta streams over mutual TLS at one of three controllers, {envoys} Envoys beside them; medians over {changes} changes of one endpoint"
    );
    println!("{}", Figures::HEAD);
    for size in sizes.split(',') {
        let size = size.trim().parse().context("STREAMS are numbers")?;
        let figures = measure::run(&mut setting, size, changes).await?;
        println!("{}", figures.line(size));
    }
    println!("{}", anchors::OTHERS);
    Ok(())
}

fn number(name: &str, otherwise: usize) -> anyhow::Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is a number")),
        Err(_) => Ok(otherwise),
    }
}
