//! The generators' processes, as the bench sees them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use maille_tests::account;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::generator::{Plan, Round};

/// A process may have 20,000 files here; half of that leaves room for the returning.
const STREAMS_A_PROCESS: usize = 5000;
/// For everything that is waited for.
const LIMIT: Duration = Duration::from_secs(180);

/// Streams, as many as were asked for; they end with this.
pub(crate) struct Fleet {
    generators: Vec<Generator>,
}

struct Generator {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Fleet {
    /// Starts them.
    pub(crate) fn start(
        identity: &Path,
        servers: &[SocketAddr],
        streams: usize,
    ) -> anyhow::Result<Fleet> {
        let starts = (0..streams).step_by(STREAMS_A_PROCESS);
        let generators = starts.map(|first| {
            Generator::start(&Plan {
                identity: identity.to_owned(),
                servers: servers.to_owned(),
                first,
                count: STREAMS_A_PROCESS.min(streams - first),
            })
        });
        Ok(Fleet {
            generators: generators.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Waits until every stream has ended a round; answers when each did, in microseconds of Unix time.
    pub(crate) async fn round(&mut self, number: usize) -> anyhow::Result<Vec<u64>> {
        let mut all = Vec::new();
        for generator in &mut self.generators {
            let line = tokio::time::timeout(LIMIT, generator.lines.next_line()).await;
            let line = line.with_context(|| format!("round {number} does not end"))??;
            let round: Round = serde_json::from_str(&line.context("a generator has ended")?)?;
            ensure!(
                round.number == number,
                "{} ended, not {number}",
                round.number
            );
            all.extend(round.acknowledged);
        }
        Ok(all)
    }

    /// CPU of all generators.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let pids = self.generators.iter().filter_map(|one| one.child.id());
        pids.map(account::cpu).sum()
    }
}

impl Generator {
    fn start(plan: &Plan) -> anyhow::Result<Generator> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["generate", &serde_json::to_string(plan)?])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().context("it is piped")?;
        let lines = BufReader::new(out).lines();
        Ok(Generator { child, lines })
    }
}
