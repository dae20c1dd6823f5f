//! What a pair of sidecars costs: CPU per 1,000 requests over mutual TLS, beside an Envoy pair and a bare relay pair, in turn in
//! one run. `make bench` runs it; `ENVOY` names Envoy's binary.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use maille_tests::backend::Backend;
use maille_tests::load::{Kind, Load, Report};

use crate::pair::Pair;

mod certificates;
mod envoy;
mod maille;
mod pair;
mod relay;

/// Rounds in which all pairs take turns; medians are over them.
const ROUNDS: usize = 5;
/// How long one load lasts.
const LOAD: Duration = Duration::from_secs(3);
/// How long a pair may take until it answers.
const READY: Duration = Duration::from_secs(20);

/// One figure of one pair under one load.
#[derive(Clone, Copy)]
struct Figure {
    cpu_millis: f64,
    rate: f64,
    p50: f64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let envoy = PathBuf::from(std::env::var_os("ENVOY").context("ENVOY must name Envoy's binary")?);
    let directory = tempfile::tempdir()?;
    certificates::write(directory.path())?;
    let backend = Backend::start("bench", "127.0.0.1:0".parse()?).await?;
    let maille = maille::start(backend.address()).await?;
    println!(
        "maille: ready {:.0} ms after its start, median of {} starts",
        maille.ready_millis,
        maille::STARTS
    );
    let pairs = vec![
        envoy::start(&envoy, directory.path(), backend.address())?,
        maille.pair,
        relay::start(directory.path(), backend.address())?,
    ];
    for pair in &pairs {
        wait_until_ready(pair).await?;
        println!("{:<12} RSS at rest {} KiB", pair.name, pair.memory()?);
    }
    for kind in [Kind::Http1, Kind::Grpc] {
        for workers in [16, 128] {
            compare(&pairs, kind, workers).await?;
        }
    }
    Ok(())
}

/// Lets the pairs take turns under one load and prints their medians, and each CPU figure's ratio to Envoy's.
async fn compare(pairs: &[Pair], kind: Kind, workers: usize) -> anyhow::Result<()> {
    let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); pairs.len()];
    for _ in 0..ROUNDS {
        for (pair, figures) in pairs.iter().zip(&mut figures) {
            figures.push(measure(pair, kind, workers, LOAD).await?);
        }
    }
    println!(
        "\n{kind:?}, {workers} at once: CPU ms per 1,000 requests | requests/s | p50 µs | CPU to Envoy's"
    );
    let base = median(&figures[0], |figure| figure.cpu_millis);
    for (pair, figures) in pairs.iter().zip(&figures) {
        let cpu = median(figures, |figure| figure.cpu_millis);
        println!(
            "{:<12} {cpu:>8.1} | {:>9.0} | {:>7.0} | {:.2}",
            pair.name,
            median(figures, |figure| figure.rate),
            median(figures, |figure| figure.p50),
            cpu / base,
        );
    }
    Ok(())
}

async fn measure(
    pair: &Pair,
    kind: Kind,
    workers: usize,
    time: Duration,
) -> anyhow::Result<Figure> {
    let before = pair.cpu()?;
    let report = send(pair, kind, workers, time).await?;
    let spent = pair.cpu()?.saturating_sub(before);
    anyhow::ensure!(
        report.failed == 0,
        "{}: {} of {} requests failed",
        pair.name,
        report.failed,
        report.failed + report.succeeded
    );
    Ok(Figure {
        cpu_millis: spent.as_secs_f64() * 1e6 / report.succeeded as f64,
        rate: report.rate(),
        p50: report.quantile(0.5).into(),
    })
}

async fn send(pair: &Pair, kind: Kind, workers: usize, time: Duration) -> anyhow::Result<Report> {
    let address = match kind {
        Kind::Http1 => pair.http1,
        Kind::Grpc => pair.grpc,
    };
    let authority = pair.authority.clone();
    Load {
        kind,
        workers,
        time,
        address,
        authority,
    }
    .run()
    .await
}

/// Waits until both protocols are answered.
async fn wait_until_ready(pair: &Pair) -> anyhow::Result<()> {
    let ready = async {
        for kind in [Kind::Http1, Kind::Grpc] {
            loop {
                let report = send(pair, kind, 1, Duration::from_millis(50)).await;
                if report.is_ok_and(|report| report.succeeded > 0 && report.failed == 0) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(READY, ready)
        .await
        .with_context(|| format!("{} does not answer", pair.name))
}

fn median(figures: &[Figure], of: impl Fn(&Figure) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
