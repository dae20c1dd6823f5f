//! Waiting for a condition: with a limit, and with what was last seen in the error.

use std::fmt::Display;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// Between two looks. Short against everything that is waited for, long against the cost of a look.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` answers `Ok`, at most for `limit`.
///
/// # Errors
/// The time is up; the error says what was awaited and what `look` said last.
pub async fn until<T, E: Display>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    let mut last = "nothing yet".to_owned();
    loop {
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => last = format!("{seen:#}"),
            Err(_) => {
                bail!("{what}: not within {limit:?}; a look did not end, before that: {last}")
            }
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}; last seen: {last}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `Ok` where a condition holds; else what was seen, for `until`.
///
/// # Errors
/// The condition does not hold.
pub fn ensure(condition: bool, seen: impl Display) -> Result<(), String> {
    if condition {
        Ok(())
    } else {
        Err(seen.to_string())
    }
}
