//! The three cases: the product as it is, and twice with the flaw that the check must find.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::{Cluster, Plan};
use crate::evidence::Evidence;
use crate::variant::Variant;
use crate::writers::Writers;

/// Acknowledged writes of the long case, and kills among them.
const WRITES: u64 = 50_000;
const ROUNDS: u64 = 30;
/// At whose middle one controller is replaced.
const REPLACED_AFTER: u64 = ROUNDS / 2;
const WRITERS: usize = 64;
/// Snapshots that controllers must have taken from each other.
const SNAPSHOTS: usize = 3;
/// How long a killed controller stays away.
const AWAY_MILLIS: std::ops::RangeInclusive<u64> = 50..=900;
/// One controller's disk holds back so long what the others' have written …
const SLOW_DISK: Duration = Duration::from_millis(15);
/// … and where a flaw is to show.
const SLOWEST_DISK: Duration = Duration::from_millis(100);
/// Kills, or kills of all, in one try to show a flaw …
const FLAW_ROUNDS: u64 = 4;
/// … with so many writes between two of them.
const FLAW_WRITES: u64 = 200;
/// Tries in which a flaw must have been found.
const FLAW_TRIES: u64 = 3;

/// A case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Nothing,
    LeaderRestore,
    EarlyFlush,
}

impl Case {
    pub const ALL: [Self; 3] = [Self::Nothing, Self::LeaderRestore, Self::EarlyFlush];

    /// A sentence about behaviour.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing_acknowledged_is_lost_by_kills",
            Self::LeaderRestore => "a_leader_that_leads_on_after_a_restart_is_found_to_lose_writes",
            Self::EarlyFlush => "a_log_that_answers_before_it_has_written_is_found_to_lose_writes",
        }
    }

    /// Answers the figures.
    pub fn run(self) -> anyhow::Result<String> {
        let seed = number("KILLS_SEED").unwrap_or_else(rand::random);
        eprintln!("{}: KILLS_SEED={seed}", self.name());
        let random = StdRng::seed_from_u64(seed);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        // On this thread, which outlives every controller that it starts.
        runtime.block_on(async {
            match self {
                Self::Nothing => many_kills(random).await,
                Self::LeaderRestore => flaw(Variant::LeaderRestore).await,
                Self::EarlyFlush => flaw(Variant::EarlyFlush).await,
            }
        })
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The product, unless a flaw is asked for: then the long case must fail.
fn variant() -> anyhow::Result<Variant> {
    match std::env::var("KILLS_VARIANT") {
        Ok(name) => {
            Variant::of(&name).with_context(|| format!("KILLS_VARIANT: there is no `{name}`"))
        }
        Err(_) => Ok(Variant::Sound),
    }
}

/// Whom a round kills.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Leader,
    Anyone,
    Everyone,
}

fn victim(random: &mut StdRng) -> Victim {
    match random.random_range(0..100) {
        0..50 => Victim::Leader,
        50..85 => Victim::Anyone,
        _ => Victim::Everyone,
    }
}

async fn many_kills(mut random: StdRng) -> anyhow::Result<String> {
    let rounds = number("KILLS_ROUNDS").unwrap_or(ROUNDS);
    let writes = number("KILLS_WRITES").unwrap_or(WRITES);
    let plan = Plan {
        variant: variant()?,
        delay: SLOW_DISK,
        snapshot_every: 200,
        keep_log: 10,
    };
    let mut cluster = Cluster::found(plan).await?;
    let mut writers = start_writers(&cluster);
    let (mut kills, started) = (0, Instant::now());
    for round in 0..rounds {
        writers.reach(writes * (round + 1) / (rounds + 1)).await?;
        pause(&mut random, 0..=300).await;
        eprintln!(
            "{:?}: round {round}, {} acknowledged",
            started.elapsed(),
            writers.total()
        );
        kills += kill_and_restart(&mut cluster, &mut random).await?;
        if round == REPLACED_AFTER.min(rounds - 1) {
            let replaced = random.random_range(0..cluster.controllers.len());
            cluster.leader().await?;
            cluster.replace(replaced).await?;
            kills += 1;
        }
    }
    writers.reach(writes).await?;
    let counts = writers.end().await?;
    eprintln!(
        "{:?}: {} acknowledged, looking for them",
        started.elapsed(),
        counts.total()
    );
    let evidence = Evidence::gather(&mut cluster, &counts).await?;
    let snapshots = cluster.snapshots_installed()?;
    let figures = format!(
        "{rounds} rounds, {kills} kills, {} acknowledged, {evidence}, {snapshots} snapshots installed",
        counts.total()
    );
    ensure!(evidence.is_clean(), "{figures}");
    ensure!(
        snapshots >= SNAPSHOTS,
        "too few snapshots to show anything: {figures}"
    );
    Ok(figures)
}

fn start_writers(cluster: &Cluster) -> Writers {
    let clients: Vec<_> = cluster
        .controllers
        .iter()
        .map(|one| one.client.clone())
        .collect();
    Writers::start(WRITERS, &clients)
}

async fn pause(random: &mut StdRng, millis: std::ops::RangeInclusive<u64>) {
    tokio::time::sleep(Duration::from_millis(random.random_range(millis))).await;
}

/// One round; answers how many processes it killed.
async fn kill_and_restart(cluster: &mut Cluster, random: &mut StdRng) -> anyhow::Result<usize> {
    let many = cluster.controllers.len();
    let victims = match victim(random) {
        Victim::Leader => vec![cluster.leader().await?],
        Victim::Anyone => vec![random.random_range(0..many)],
        Victim::Everyone => (0..many).collect(),
    };
    match victims.as_slice() {
        [one] => cluster.kill(*one).await?,
        _ => cluster.kill_all().await?,
    }
    pause(random, AWAY_MILLIS).await;
    for one in &victims {
        cluster.start(*one)?;
    }
    Ok(victims.len())
}

/// Kills where the flaw shows, and looks whether the check finds it; a few times, for it is a matter of milliseconds.
async fn flaw(variant: Variant) -> anyhow::Result<String> {
    let mut figures = Vec::new();
    for _ in 0..FLAW_TRIES {
        let evidence = flaw_once(variant).await?;
        figures.push(format!("{FLAW_ROUNDS} rounds: {evidence}"));
        if evidence.lost() > 0 {
            return Ok(figures.join("; then "));
        }
    }
    bail!("the check found no loss: {}", figures.join("; then "))
}

async fn flaw_once(variant: Variant) -> anyhow::Result<Evidence> {
    let plan = Plan {
        variant,
        delay: SLOWEST_DISK,
        snapshot_every: 10_000,
        keep_log: 5_000,
    };
    let mut cluster = Cluster::found(plan).await?;
    let mut writers = start_writers(&cluster);
    for _ in 0..FLAW_ROUNDS {
        if variant == Variant::LeaderRestore {
            // Its disk is slow: the others have synced what it has not written yet.
            cluster.hand_over_to(0).await?;
        }
        writers.reach(writers.total() + FLAW_WRITES).await?;
        if variant == Variant::LeaderRestore {
            cluster.kill(0).await?;
            cluster.start(0)?;
        } else {
            cluster.kill_all().await?;
            for index in 0..cluster.controllers.len() {
                cluster.start(index)?;
            }
        }
    }
    writers.reach(writers.total() + FLAW_WRITES).await?;
    let counts = writers.end().await?;
    Evidence::gather(&mut cluster, &counts).await
}
