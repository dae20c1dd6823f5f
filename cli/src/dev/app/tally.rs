//! What a client has seen: sent, failed, refused, by whom answered, as whom it was seen, and how long it took.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many texts of errors are kept: the first are the telling ones.
const ERRORS_KEPT: usize = 8;
/// How many servers and identities are told apart.
const NAMES_KEPT: usize = 64;

/// One line that an application prints about its calls to one destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// `host:port` called.
    pub to: String,
    /// Everything since the start.
    pub tally: Tally,
    /// The latencies since the line before.
    pub recent: Latency,
}

/// Counts since the start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Calls made, whatever came of them.
    pub sent: u64,
    pub ok: u64,
    /// Calls that got no answer, or a wrong one.
    pub failed: u64,
    /// Calls answered with a refusal (403, PERMISSION_DENIED).
    pub refused: u64,
    /// Connections made.
    pub connections: u64,
    /// Answers by the server that gave them.
    pub servers: BTreeMap<String, u64>,
    /// Answers by what the server saw as the client's certificate (XFCC), `-` for none.
    pub identities: BTreeMap<String, u64>,
    /// The first errors, each with the milliseconds since the start.
    pub errors: Vec<String>,
    pub latency: Latency,
}

/// Quantiles, microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// What became of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Ok { server: String, identity: String },
    Refused(String),
    Failed(String),
}

/// A tally that is still being made.
#[derive(Debug, Default)]
pub struct Counter {
    tally: Tally,
    all: Histogram,
    recent: Histogram,
}

impl Counter {
    /// Counts one call: its answer, when it ended, how long it took.
    pub fn count(&mut self, answer: Answer, since_start: Duration, took: Duration) {
        self.tally.sent += 1;
        match answer {
            Answer::Ok { server, identity } => {
                self.tally.ok += 1;
                bump(&mut self.tally.servers, server);
                bump(&mut self.tally.identities, identity);
                self.all.add(took);
                self.recent.add(took);
            }
            Answer::Refused(text) => {
                self.tally.refused += 1;
                self.keep(text, since_start);
            }
            Answer::Failed(text) => {
                self.tally.failed += 1;
                self.keep(text, since_start);
            }
        }
    }

    /// Counts a connection.
    pub fn connected(&mut self) {
        self.tally.connections += 1;
    }

    /// The counts so far; the recent latencies start anew.
    pub fn line(&mut self, to: &str) -> Line {
        let recent = std::mem::take(&mut self.recent).quantiles();
        Line {
            to: to.to_string(),
            tally: Tally {
                latency: self.all.quantiles(),
                ..self.tally.clone()
            },
            recent,
        }
    }

    fn keep(&mut self, text: String, since_start: Duration) {
        if self.tally.errors.len() < ERRORS_KEPT {
            self.tally
                .errors
                .push(format!("at {} ms: {text}", since_start.as_millis()));
        }
    }
}

fn bump(names: &mut BTreeMap<String, u64>, name: String) {
    if names.len() < NAMES_KEPT || names.contains_key(&name) {
        *names.entry(name).or_default() += 1;
    } else {
        *names.entry("others".to_string()).or_default() += 1;
    }
}

/// Steps per doubling: a quantile is told within 6 %.
const STEPS: u32 = 16;

/// Latencies in logarithmic steps.
#[derive(Debug, Default)]
struct Histogram {
    counts: BTreeMap<u32, u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let micros = (took.as_micros() as u64).max(1);
        *self
            .counts
            .entry(((micros as f64).log2() * f64::from(STEPS)) as u32)
            .or_default() += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    fn quantiles(&self) -> Latency {
        Latency {
            count: self.total,
            p50: self.quantile(0.5),
            p99: self.quantile(0.99),
            max: self.max,
        }
    }

    fn quantile(&self, part: f64) -> u64 {
        let wanted = (self.total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (step, count) in &self.counts {
            seen += count;
            if seen >= wanted {
                return (f64::from(*step + 1) / f64::from(STEPS)).exp2() as u64;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_step() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|micros| histogram.add(Duration::from_micros(micros)));
        let latency = histogram.quantiles();
        assert!((470..=540).contains(&latency.p50), "{latency:?}");
        assert!((930..=1060).contains(&latency.p99), "{latency:?}");
        assert_eq!((latency.count, latency.max), (1000, 1000));
    }

    #[test]
    fn every_call_is_counted_once() {
        let mut counter = Counter::default();
        let now = Duration::from_millis(5);
        counter.count(
            Answer::Ok {
                server: "v1".into(),
                identity: "-".into(),
            },
            now,
            now,
        );
        counter.count(Answer::Refused("403".into()), now, now);
        counter.count(Answer::Failed("reset".into()), now, now);
        let tally = counter.line("x").tally;
        assert_eq!(
            (tally.sent, tally.ok, tally.refused, tally.failed),
            (3, 1, 1, 1)
        );
        assert_eq!(tally.errors, ["at 5 ms: 403", "at 5 ms: reset"]);
    }

    #[test]
    fn names_are_bounded() {
        let mut counter = Counter::default();
        for number in 0..1000 {
            counter.count(
                Answer::Ok {
                    server: number.to_string(),
                    identity: "-".into(),
                },
                Duration::ZERO,
                Duration::ZERO,
            );
        }
        assert_eq!(counter.line("x").tally.servers.len(), NAMES_KEPT + 1);
    }
}
