//! Command lines of `maille envoy`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

/// `maille envoy`
#[derive(Args, Debug)]
pub struct Envoy {
    #[command(subcommand)]
    pub action: EnvoyAction,
}

/// What to do with an Envoy.
#[derive(Debug, Subcommand)]
pub enum EnvoyAction {
    /// Prints the bootstrap with which an Envoy takes part in the mesh through a running `maille-proxy agent`: YAML, or JSON by `-o json`.
    Bootstrap(Bootstrap),
    /// Runs an Envoy in the mesh: starts the agent, then Envoy once the agent has a certificate. Ends with Envoy's exit code.
    Run(Run),
}

/// What the bootstrap is made from.
#[derive(Args, Clone, Debug)]
pub struct Bootstrap {
    /// The configuration of the sidecar or the agent (YAML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The service account of the workload's identity [default: that of the certificate, which the running agent tells, or of the join token]
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,
    /// The port of Envoy's administration, on the loopback.
    #[arg(long, default_value_t = 4792, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub admin_port: u16,
}

/// `maille envoy run`
#[derive(Args, Clone, Debug)]
pub struct Run {
    #[command(flatten)]
    pub bootstrap: Bootstrap,
    /// The program [default: `envoy` on the search path]
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// How long connections may live on after something that they depend on has changed or been revoked, and after a signal to end: 10s, 2m.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = seconds)]
    pub drain_time: Duration,
    /// Envoy's worker threads.
    #[arg(long, default_value_t = 1, value_name = "THREADS", value_parser = clap::value_parser!(u32).range(1..))]
    pub concurrency: u32,
    /// More arguments for Envoy; one that is given here replaces ours.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub arguments: Vec<OsString>,
}

/// Whole seconds, which is what Envoy takes: `10s`, `2m`, or a number alone.
fn seconds(text: &str) -> Result<Duration, &'static str> {
    /// Envoy's own default; longer only keeps what is revoked.
    const LONGEST: u64 = 600;
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds = number.parse::<u64>().ok();
    let seconds = seconds.and_then(|number| number.checked_mul(unit));
    match seconds {
        Some(seconds @ 1..=LONGEST) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be from 1s to 10m, in whole seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_time_is_whole_seconds() {
        for (text, expected) in [
            ("10s", Some(10)),
            ("2m", Some(120)),
            ("5", Some(5)),
            ("0s", None),
            ("11m", None),
            ("1.5s", None),
            ("s", None),
            ("500ms", None),
        ] {
            let found = seconds(text).ok().map(|found| found.as_secs());
            assert_eq!(found, expected, "{text}");
        }
    }
}
