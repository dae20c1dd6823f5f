//! Durable writes through the admin API at 1, 16 and 128 clients, and the time until writes are accepted again after the leader was
//! killed, beside etcd on the same disk, in turn in one run. `make bench` runs it; `ETCD` names etcd's binary.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use maille_tests::cluster::Cluster;
use maille_tests::wait;
use tokio::task::JoinSet;

use crate::contestant::{Contestant, Writer};

mod contestant;
mod etcd;

/// Rounds in which both take turns; medians are over them.
const ROUNDS: usize = 3;
/// How long one load lasts.
const LOAD: Duration = Duration::from_secs(6);
/// How many leaders are killed.
const KILLS: usize = 10;
/// What is written: 256 bytes, as in etcd's own benchmark.
const VALUE_BYTES: usize = 256;
/// Each client writes over so many keys.
const KEYS: u64 = 1000;
/// A failover takes less than two seconds.
const FAILOVER_LIMIT: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let program = PathBuf::from(std::env::var_os("ETCD").context("ETCD must name etcd's binary")?);
    let directory = tempfile::tempdir()?;
    let mut contestants = [
        Contestant::Maille(Box::new(Cluster::found(3).await?)),
        Contestant::Etcd(etcd::Etcd::start(&program, directory.path()).await?),
    ];
    for clients in [1, 16, 128] {
        compare(&mut contestants, clients).await?;
    }
    println!("\nfailover, ms from kill -9 of the leader to the next acknowledged write");
    for contestant in &mut contestants {
        let mut times = Vec::new();
        for _ in 0..KILLS {
            times.push(failover(contestant).await?.as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let (first, last) = (times[0], times[KILLS - 1]);
        println!(
            "{:<10} {:>6.0} (from {first:.0} to {last:.0})",
            contestant.name(),
            times[KILLS / 2]
        );
    }
    Ok(())
}

/// Lets both take turns and prints the medians, and the ratio to the last.
async fn compare(contestants: &mut [Contestant; 2], clients: usize) -> anyhow::Result<()> {
    let mut rates = [Vec::new(), Vec::new()];
    let mut latencies = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (place, contestant) in contestants.iter_mut().enumerate() {
            let (rate, p50) = load(contestant, clients).await?;
            rates[place].push(rate);
            latencies[place].push(p50);
        }
    }
    println!("\n{clients} clients: durable writes/s | p50 ms | to etcd's");
    let base = median(&mut rates[1]);
    for (place, contestant) in contestants.iter().enumerate() {
        let rate = median(&mut rates[place]);
        let p50 = median(&mut latencies[place]);
        println!(
            "{:<10} {rate:>7.0} | {p50:>6.2} | {:.2}",
            contestant.name(),
            rate / base
        );
    }
    Ok(())
}

/// Acknowledged writes a second, and the median latency in milliseconds.
async fn load(contestant: &mut Contestant, clients: usize) -> anyhow::Result<(f64, f64)> {
    let leader = contestant.leader().await?;
    let mut writers = JoinSet::new();
    let mut ready = Vec::new();
    for _ in 0..clients {
        ready.push(contestant.writer(leader).await?);
    }
    let begin = Instant::now();
    for (id, writer) in ready.into_iter().enumerate() {
        writers.spawn(write_until(writer, id, begin + LOAD));
    }
    let mut times = Vec::new();
    while let Some(done) = writers.join_next().await {
        times.extend(done??);
    }
    let rate = times.len() as f64 / begin.elapsed().as_secs_f64();
    Ok((rate, median(&mut times)))
}

async fn write_until(mut writer: Writer, id: usize, until: Instant) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for count in 0_u64.. {
        let begin = Instant::now();
        if begin >= until {
            break;
        }
        let (key, value) = (
            format!("w{id}-{}", count % KEYS),
            format!("{count:0>VALUE_BYTES$}"),
        );
        writer.write(&key, &value).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

async fn failover(contestant: &mut Contestant) -> anyhow::Result<Duration> {
    let leader = contestant.leader().await?;
    let mut survivors = Vec::new();
    for place in contestant
        .running()
        .into_iter()
        .filter(|place| *place != leader)
    {
        let mut writer = contestant.writer(place).await?;
        writer.write("failover", "before").await?;
        survivors.push(writer);
    }
    contestant.kill(leader).await?;
    let begin = Instant::now();
    wait::until(
        "a write after the leader's death",
        FAILOVER_LIMIT,
        async || {
            let mut last = Ok(());
            for writer in &mut survivors {
                let write = writer.write("failover", "after");
                last = match tokio::time::timeout(Duration::from_secs(1), write).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(other) => other,
                    Err(_) => Err(anyhow::anyhow!("no answer within a second")),
                };
            }
            last
        },
    )
    .await?;
    let took = begin.elapsed();
    contestant.restart(leader)?;
    contestant.leader().await?;
    Ok(took)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
