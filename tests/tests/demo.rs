//! `maille dev --check`: the demo in its network namespaces proves what the README promises, counted at the applications.
#![allow(
    clippy::print_stderr,
    reason = "what the demo says belongs into the test's output"
)]

use std::process::Command;

use maille_tests::binaries::Binaries;
use serde_json::Value;

/// How soon writes are accepted again is a time: `maille dev --check` and `make bench` judge it on a quiet machine, this test only prints it.
const TIMED: &str = "failover-time";

#[test]
fn the_demo_proves_itself() {
    let output = Command::new(Binaries::get().cli())
        .args(["dev", "--check", "-o", "json"])
        .output()
        .expect("the CLI can be started");
    let talk = String::from_utf8_lossy(&output.stderr);
    eprintln!("{talk}");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no report ({error}), but: {talk}"));
    let checks = report["checks"].as_array().expect("a report lists checks");
    let failed: Vec<&Value> = checks
        .iter()
        .filter(|check| check["passed"] != true && check["name"] != TIMED)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    for check in checks {
        let skipped = &check["detail"]["skipped"];
        assert!(
            skipped.is_null(),
            "{} was skipped: {skipped}",
            check["name"]
        );
        eprintln!("{}: {}", check["name"], check["detail"]);
    }
}
