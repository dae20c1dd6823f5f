//! `maille dev --check`: proves what the demo shows. Success is counted at the applications, never inferred from the mesh's own counters.

mod controllers;
mod denied;
mod failover;
mod first_byte;
mod matrix;
mod outage;
mod packets;
mod programs;
mod server_hello;
mod split;
mod steady;
mod strict;
mod traffic;
mod wire;
mod writers;
mod xfcc;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::dev::Dev;
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, Rows, say};

use super::app::tally::Tally;
use super::mesh::Mesh;

/// What all checks found: the one object that `-o json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) passed: bool,
    pub(super) checks: Vec<Check>,
}

/// One thing proved, or not.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) passed: bool,
    pub(super) sent: u64,
    /// What should have succeeded and did not.
    pub(super) failed: u64,
    /// What rightly did not succeed.
    pub(super) refused: u64,
    pub(super) detail: Value,
}

impl Check {
    /// A check without requests.
    fn of(name: &str, passed: bool, detail: Value) -> Check {
        Check {
            name: name.to_string(),
            passed,
            sent: 0,
            failed: 0,
            refused: 0,
            detail,
        }
    }

    /// A check of calls that should all succeed, and of something more.
    fn calls(name: &str, tally: &Tally, more: bool, detail: Value) -> Check {
        let passed = more && tally.sent > 0 && tally.failed == 0 && tally.refused == 0;
        let mut detail = detail;
        if !tally.errors.is_empty() {
            detail["errors"] = json!(tally.errors);
        }
        Check {
            name: name.to_string(),
            passed,
            sent: tally.sent,
            failed: tally.failed + tally.refused,
            refused: 0,
            detail,
        }
    }

    /// A check that could not be made here. It passes: what cannot be made says nothing against the mesh; and it says why.
    fn skipped(name: &str, why: &str) -> Check {
        Check::of(name, true, json!({"skipped": why}))
    }
}

/// Runs all checks, or those asked for, and prints the report.
pub(super) async fn run(args: &Dev, mesh: &mut Mesh, printer: Printer) -> Outcome {
    let mut checks = Vec::new();
    for part in PARTS {
        if part.is_there(mesh) && wanted(args, part.names) {
            say(&format!("checking: {}", part.title));
            let begun = Instant::now();
            let found = part
                .run(args, mesh)
                .await
                .unwrap_or_else(|failure| vec![part.broken(&failure)]);
            for check in &found {
                let verdict = if check.passed { "ok" } else { "FAILED" };
                say(&format!(
                    "  {verdict} {}: {} sent, {} failed, {} refused",
                    check.name, check.sent, check.failed, check.refused
                ));
            }
            say(&format!("  took {:.1} s", begun.elapsed().as_secs_f64()));
            checks.extend(found);
        }
    }
    if checks.is_empty() {
        return Err(
            Failure::failed("no check has such a name").next("leave out --only to see all names")
        );
    }
    let report = Report {
        passed: checks.iter().all(|check| check.passed),
        checks,
    };
    printer.result(&report, || table(&report))?;
    let failed = report
        .checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| check.name.as_str())
        .collect::<Vec<_>>();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(format!(
            "checks that did not pass: {}",
            failed.join(", ")
        )))
    }
}

fn wanted(args: &Dev, names: &[&str]) -> bool {
    args.only.is_empty()
        || names
            .iter()
            .any(|name| args.only.iter().any(|only| meant(name, only)))
}

/// A name that ends in a dash stands for all that begin so.
fn meant(name: &str, only: &str) -> bool {
    name.contains(only) || (name.ends_with('-') && only.starts_with(name))
}

fn table(report: &Report) -> Rows {
    let mut rows = Rows::new(["check", "result", "sent", "failed", "refused"]).wide(["detail"]);
    for check in &report.checks {
        let verdict = if check.passed { "ok" } else { "FAILED" };
        let [sent, failed, refused] =
            [check.sent, check.failed, check.refused].map(|count| count.to_string());
        rows.push([
            check.name.clone(),
            verdict.into(),
            sent,
            failed,
            refused,
            check.detail.to_string(),
        ]);
    }
    rows
}

/// Checks that are made together.
struct Part {
    title: &'static str,
    names: &'static [&'static str],
    which: Which,
}

#[derive(Clone, Copy)]
enum Which {
    Controllers,
    Traffic,
    Wire,
    Split,
    Denied,
    Xfcc,
    FirstByte,
    Matrix,
    Strict,
    Failover,
    Outage,
}

/// In this order: the outage's idle destination is called first of all and last of all, and strict mode stays on from its check.
const PARTS: [Part; 11] = [
    Part {
        title: "controllers and leader",
        names: &["controllers"],
        which: Which::Controllers,
    },
    Part {
        title: "every protocol over both families",
        names: &traffic::NAMES,
        which: Which::Traffic,
    },
    Part {
        title: "what the wire carries",
        names: &["tls13-on-the-wire"],
        which: Which::Wire,
    },
    Part {
        title: "the weights of the route",
        names: &["split-90-10"],
        which: Which::Split,
    },
    Part {
        title: "a denied identity",
        names: &["denied-identity"],
        which: Which::Denied,
    },
    Part {
        title: "a forged client certificate header",
        names: &["forged-xfcc"],
        which: Which::Xfcc,
    },
    Part {
        title: "a server that speaks first",
        names: &["server-first-first-byte"],
        which: Which::FirstByte,
    },
    Part {
        title: "every kind of client with every kind of server",
        names: &[matrix::PREFIX],
        which: Which::Matrix,
    },
    Part {
        title: "strict mode",
        names: &["strict-refuses-plaintext"],
        which: Which::Strict,
    },
    Part {
        title: "death of controllers",
        names: &failover::NAMES,
        which: Which::Failover,
    },
    Part {
        title: "no controller at all",
        names: &outage::NAMES,
        which: Which::Outage,
    },
];

impl Part {
    async fn run(&self, args: &Dev, mesh: &mut Mesh) -> Outcome<Vec<Check>> {
        match self.which {
            Which::Controllers => controllers::run(mesh).await,
            Which::Traffic => traffic::run(args, mesh).await,
            Which::Wire => wire::run(mesh).await,
            Which::Split => split::run(args, mesh).await,
            Which::Denied => denied::run(mesh).await,
            Which::Xfcc => xfcc::run(mesh).await,
            Which::FirstByte => first_byte::run(mesh).await,
            Which::Matrix => matrix::run(args, mesh).await,
            Which::Strict => strict::run(mesh).await,
            Which::Failover => failover::run(args, mesh).await,
            Which::Outage => outage::run(args, mesh).await,
        }
    }

    fn is_there(&self, mesh: &Mesh) -> bool {
        !matches!(self.which, Which::Matrix) || mesh.sets.len() > 1
    }

    fn broken(&self, failure: &Failure) -> Check {
        Check::of(self.names[0], false, json!({"error": failure.to_string()}))
    }
}

/// Looks again and again until something has come about; gives the last look when the time is up.
async fn until<T>(
    limit: Duration,
    mut look: impl AsyncFnMut() -> Outcome<(bool, T)>,
) -> Outcome<(bool, T)> {
    /// Between two looks.
    const PAUSE: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + limit;
    loop {
        let (come_about, seen) = look().await?;
        if come_about || Instant::now() >= deadline {
            return Ok((come_about, seen));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
