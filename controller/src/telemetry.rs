//! What the process tells of itself: the log, and the registry of its metrics.

use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level's text is no filter.
    #[error(
        "`{level}` is no log level; write one such as `info` or `info,maille_controller::raft=debug`"
    )]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody set the log up before.
    #[error("the log was already set up in this process")]
    AlreadySet,
}

/// Whether a text is a valid log level, so that configuration can be checked without setting the log up.
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(|_| ())
}

/// Libraries whose every `info` would drown ours; a level that names them wins.
const QUIET: [&str; 2] = ["openraft", "sled"];

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let mut directives = level.to_owned();
    for library in QUIET {
        if !level.contains(library) {
            directives.push_str(&format!(",{library}=error"));
        }
    }
    let parsed = EnvFilter::builder().parse(&directives);
    parsed.map_err(|source| LogError::Level {
        level: level.to_owned(),
        source,
    })
}

/// Sends the log to standard error: standard output is for what a command was asked for.
pub fn start_log(level: &str, format: LogFormat) -> Result<(), LogError> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(|_| LogError::AlreadySet)
}

/// The process's metrics. Cheap to clone; parts register theirs as they start.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry whose metrics all begin with `maille_controller_`.
    pub fn new() -> Self {
        Self {
            registry: Arc::new(Mutex::new(Registry::with_prefix("maille_controller"))),
        }
    }

    /// Lets a part register its metrics.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        with(
            &mut self
                .registry
                .lock()
                .expect("no code panics while it holds the registry"),
        );
    }

    /// The metrics in Prometheus' text form (OpenMetrics 1.0).
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(
            &mut text,
            &self
                .registry
                .lock()
                .expect("no code panics while it holds the registry"),
        )?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn metrics_are_printed_with_the_products_prefix() {
        let metrics = Metrics::new();
        let writes: Counter = Counter::default();
        metrics.register(|registry| registry.register("writes", "Writes", writes.clone()));
        writes.inc();
        assert!(
            metrics
                .encode()
                .unwrap()
                .contains("maille_controller_writes_total 1")
        );
    }

    #[test]
    fn a_level_that_is_none_is_refused_with_an_example() {
        check_level("info,maille_controller::raft=debug").unwrap();
        assert!(
            filter("info")
                .unwrap()
                .to_string()
                .contains("openraft=error")
        );
        assert!(
            !filter("info,openraft=debug")
                .unwrap()
                .to_string()
                .contains("openraft=error")
        );
        let refused = check_level("info,=,").unwrap_err().to_string();
        assert!(refused.contains("write one such as"), "{refused}");
    }
}
