//! The figures of one size: changes, memory, and the storm after a kill.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use maille_tests::account;

use crate::fleet::Fleet;
use crate::setting::{Setting, TARGET};

/// What is measured of one size.
pub(crate) struct Figures {
    opened: f64,
    stream_kib: f64,
    push_us: f64,
    generator_us: f64,
    half_ms: f64,
    most_ms: f64,
    last_ms: f64,
    envoys_ms: f64,
    storm_s: f64,
    elections: u64,
}

impl Figures {
    pub(crate) const HEAD: &str = "
streams | CPU a push, µs | generator's | ACK p50, ms | p99 | last | all Envoys | RSS a stream, KiB | opened within, s | storm: all current, s | elections lost
   goal |             25 |             |             | 600 |      |            |                60 |                  |                    15 |              0";

    pub(crate) fn line(&self, size: usize) -> String {
        format!(
            "{size:>7} | {:>14.1} | {:>11.1} | {:>11.0} | {:>3.0} | {:>4.0} | {:>10.0} | {:>17.1} | {:>16.1} | {:>21.1} | {:>14}",
            self.push_us,
            self.generator_us,
            self.half_ms,
            self.most_ms,
            self.last_ms,
            self.envoys_ms,
            self.stream_kib,
            self.opened,
            self.storm_s,
            self.elections,
        )
    }
}

/// What one change has cost.
struct Change {
    push_us: f64,
    generator_us: f64,
    half_ms: f64,
    most_ms: f64,
    last_ms: f64,
}

/// Opens the streams, changes an endpoint so many times, and kills the controller.
pub(crate) async fn run(
    setting: &mut Setting,
    size: usize,
    changes: usize,
) -> anyhow::Result<Figures> {
    let mut servers: Vec<_> = setting.cluster.controllers.iter().collect();
    servers.rotate_left(TARGET);
    let servers: Vec<_> = servers.iter().map(|one| one.address("xds")).collect();
    let rest = setting.memory()?;
    let begin = Instant::now();
    let mut fleet = Fleet::start(&setting.identity, &servers, size)?;
    fleet.round(0).await?;
    let opened = begin.elapsed().as_secs_f64();
    let memory = setting.memory()?;
    let mut all = Vec::new();
    for number in 1..=changes {
        all.push(change(setting, &mut fleet, number).await?);
    }
    let envoys_ms = envoys(setting).await?;
    fleet.round(changes + 1).await?;
    let (storm_s, elections) = storm(setting, &mut fleet, changes + 2).await?;
    let median = |of: fn(&Change) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        quantile(&values, 0.5)
    };
    Ok(Figures {
        opened,
        stream_kib: memory.saturating_sub(rest) as f64 / size as f64,
        push_us: median(|one| one.push_us),
        generator_us: median(|one| one.generator_us),
        half_ms: median(|one| one.half_ms),
        most_ms: median(|one| one.most_ms),
        last_ms: median(|one| one.last_ms),
        envoys_ms,
        storm_s,
        elections,
    })
}

/// One change, acknowledged by all.
async fn change(setting: &mut Setting, fleet: &mut Fleet, number: usize) -> anyhow::Result<Change> {
    let pid = setting.pid()?;
    let cpu = [account::cpu(pid)?, fleet.cpu()?];
    let begin = unix_us()?;
    setting.change().await?;
    let mut times: Vec<f64> = fleet
        .round(number)
        .await?
        .into_iter()
        .map(|at| at.saturating_sub(begin) as f64 / 1e3)
        .collect();
    times.sort_by(f64::total_cmp);
    let each = |after: Duration, before: Duration| {
        after.saturating_sub(before).as_secs_f64() * 1e6 / times.len() as f64
    };
    Ok(Change {
        push_us: each(account::cpu(pid)?, cpu[0]),
        generator_us: each(fleet.cpu()?, cpu[1]),
        half_ms: quantile(&times, 0.5),
        most_ms: quantile(&times, 0.99),
        last_ms: quantile(&times, 1.0),
    })
}

/// How long until the controllers know that every Envoy has a change.
async fn envoys(setting: &mut Setting) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let index = setting.change().await?;
    for envoy in &setting.envoys {
        envoy.clean(&setting.cluster, index).await?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// Kills the controller and changes an endpoint: seconds until every stream has that from another, and elections beyond the one that a
/// leader's death calls for.
async fn storm(
    setting: &mut Setting,
    fleet: &mut Fleet,
    number: usize,
) -> anyhow::Result<(f64, u64)> {
    let survivor = TARGET + 1;
    let before = setting.cluster.status(survivor).await?;
    let begin = unix_us()?;
    setting.cluster.kill(TARGET).await?;
    setting.cluster.ready().await?;
    setting.change().await?;
    let times = fleet.round(number).await?;
    let last = times.into_iter().max().unwrap_or(begin);
    let after = setting.cluster.status(survivor).await?;
    let called_for = u64::from(before.leader == setting.cluster.controllers[TARGET].name);
    setting.cluster.start(TARGET)?;
    setting.cluster.ready().await?;
    let lost = (after.term - before.term).saturating_sub(called_for);
    Ok(((last - begin) as f64 / 1e6, lost))
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn unix_us() -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    Ok(u64::try_from(now)?)
}
