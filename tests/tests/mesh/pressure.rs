//! A controller under pressure: clients that do what none should. Each gets a status and a text, or silence; its name is in the log; the
//! controller's memory is bounded, and well-behaved clients are served beside it. Prints a table.

mod moves;
mod neighbours;
mod offences;
mod pace;
mod silence;

use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::account;
use maille_tests::cluster::Cluster;
use maille_tests::identity;
use maille_tests::process::Process;
use rustls::ClientConfig;
use std::sync::Arc;

use neighbours::Neighbours;

/// A controller may grow by this much while an offender is there: twice the largest request, and what 100,000 names take.
const GROWTH_KIB: u64 = 96 * 1024;
/// The well-behaved get a change within this, whatever happens beside them, in a debug build on a busy machine.
const ACK_LIMIT: Duration = Duration::from_secs(5);

/// One controller, and a certificate of the account `offender`.
struct Site {
    cluster: Cluster,
    offender: Arc<ClientConfig>,
}

impl Site {
    async fn found() -> anyhow::Result<Site> {
        let cluster = Cluster::found(1).await?;
        let offender = identity::obtain(&cluster, "bench", "offender")
            .await?
            .tls(b"h2")?;
        Ok(Site { cluster, offender })
    }

    fn process(&self) -> anyhow::Result<&Process> {
        let process = self.cluster.controllers[0].process.as_ref();
        process.context("the controller runs")
    }

    /// Resident memory, KiB, and CPU time so far.
    fn account(&self) -> anyhow::Result<(u64, Duration)> {
        let pid = self.process()?.pid().context("it runs")?;
        Ok((account::memory(pid)?, account::cpu(pid)?))
    }

    /// Whether the log names somebody in a line that says this.
    fn log_names(&self, node: &str, text: &str) -> anyhow::Result<()> {
        let log = self.process()?.log();
        let named = |line: &str| line.contains(node) && line.contains(text);
        ensure!(
            log.lines().any(named),
            "no line of the log has `{node}` and `{text}`\n{}",
            self.process()?.tail()
        );
        Ok(())
    }
}

fn head() {
    eprintln!(
        "{:<26} | {:>8} | {:>8} | {:>8} | {:>8} | {:>11} | {:>11} | what the offender got",
        "offence", "RSS, MiB", "during", "after", "CPU, ms", "ACK before", "ACK beside"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_client_sends_is_answered_and_bounded_and_the_others_are_served()
-> anyhow::Result<()> {
    let site = Site::found().await?;
    let mut neighbours = Neighbours::open(&site.cluster).await?;
    head();
    for offence in offences::ALL {
        let quiet = neighbours.round(&site.cluster).await?;
        let (before, cpu) = site.account()?;
        let name = format!("bench/{}", offence.node);
        let committed = (offence.commit)(&site, &name);
        let (got, beside) = tokio::join!(committed, neighbours.round(&site.cluster));
        let (got, beside) = (got.with_context(|| offence.what)?, beside?);
        let (during, spent) = site.account()?;
        let again = neighbours.round(&site.cluster).await?;
        let (after, _) = site.account()?;
        eprintln!(
            "{:<26} | {:>8} | {:>8} | {:>8} | {:>8} | {:>8} ms | {:>8} ms | {got}",
            offence.what,
            before / 1024,
            during / 1024,
            after / 1024,
            spent.saturating_sub(cpu).as_millis(),
            quiet.as_millis(),
            beside.as_millis(),
        );
        ensure!(
            during.max(after) < before + GROWTH_KIB,
            "{}: from {before} to {during} KiB",
            offence.what
        );
        ensure!(
            beside.max(again) < ACK_LIMIT,
            "{}: others waited {beside:?}",
            offence.what
        );
        ensure!(
            got.contains(offence.expected),
            "{}: it got {got}, not {}",
            offence.what,
            offence.expected
        );
        if let Some(text) = offence.logged {
            site.log_names(&name, text)?;
        }
    }
    Ok(())
}
