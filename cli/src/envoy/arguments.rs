//! The command line of Envoy. Pure.

use std::ffi::OsString;
use std::time::Duration;

/// Ours first; what the user gives replaces what of ours means the same.
pub fn arguments(
    bootstrap: &str,
    drain_time: Duration,
    concurrency: u32,
    given: &[OsString],
) -> Vec<OsString> {
    let names: Vec<String> = given
        .iter()
        .map(|one| {
            let text = one.to_string_lossy();
            text.split('=').next().unwrap_or_default().to_owned()
        })
        .collect();
    let free = |flags: &[&str]| {
        !flags
            .iter()
            .any(|flag| names.iter().any(|name| name == flag))
    };
    let mut all: Vec<OsString> = vec!["--config-yaml".into(), bootstrap.into()];
    if free(&["--drain-time-s"]) {
        all.extend([
            "--drain-time-s".into(),
            drain_time.as_secs().to_string().into(),
        ]);
    }
    if free(&["--concurrency", "--cpuset-threads"]) {
        all.extend(["--concurrency".into(), concurrency.to_string().into()]);
    }
    // Two on one host would take each other for an old and a new process.
    if free(&[
        "--base-id",
        "--use-dynamic-base-id",
        "--disable-hot-restart",
    ]) {
        all.push("--disable-hot-restart".into());
    }
    all.extend(given.iter().cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[&str], expected: &[&str]) {
        let given: Vec<OsString> = given.iter().map(OsString::from).collect();
        let found = arguments("{}", Duration::from_secs(10), 1, &given);
        assert_eq!(found[..2], ["--config-yaml", "{}"]);
        assert_eq!(found[2..], *expected, "{given:?}");
    }

    #[test]
    fn what_the_user_gives_replaces_ours() {
        check(
            &[],
            &[
                "--drain-time-s",
                "10",
                "--concurrency",
                "1",
                "--disable-hot-restart",
            ],
        );
        check(
            &["--concurrency=4", "-l", "debug", "--base-id", "3"],
            &[
                "--drain-time-s",
                "10",
                "--concurrency=4",
                "-l",
                "debug",
                "--base-id",
                "3",
            ],
        );
        check(
            &["--drain-time-s", "5"],
            &[
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--drain-time-s",
                "5",
            ],
        );
    }
}
