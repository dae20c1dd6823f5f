//! `maille dev --envoy --check`: the demo in its network namespaces, native and behind Envoy, proves what the README promises, counted at the applications.
#![allow(
    clippy::print_stderr,
    reason = "what the demo says belongs into the test's output"
)]

use std::process::Command;

use maille_tests::binaries::Binaries;
use serde_json::Value;

/// How soon writes are accepted again is a time: `maille dev --check` and `make bench` judge it on a quiet machine, this test only prints it.
const TIMED: &str = "failover-time";
/// Two kinds of clients with two of servers in seven protocols, and the weights of the route of an Envoy with either; then gRPC programs with either
/// and with themselves, and the weights of their route.
const MATRIX: usize = 2 * 2 * 7 + 2 + (2 * 2 + 1) + 1;

#[test]
fn the_demo_proves_itself() {
    let binaries = Binaries::get();
    let envoy = format!("--envoy={}", binaries.envoy().display());
    let output = Command::new(binaries.cli())
        .args(["dev", &envoy, "--check", "-o", "json"])
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
    let name = |check: &Value| check["name"].as_str().map(str::to_owned);
    let names = checks.iter().filter_map(name);
    let matrix = names.filter(|name| name.starts_with("matrix-")).count();
    assert_eq!(matrix, MATRIX, "{checks:#?}");
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
