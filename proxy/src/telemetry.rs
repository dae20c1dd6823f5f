//! What the process tells of itself: the log, whose level can be changed while it runs.

use crate::config::LogFormat;
use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// The log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is no filter.
    #[error(
        "`{level}` is no log level; write one such as `info` or `info,maille_proxy::xds=debug`"
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
    /// The log is gone.
    #[error("the log's level cannot be changed")]
    Reload(#[source] reload::Error),
}

/// The log's level. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogLevel {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogLevel {
    /// The directives in force.
    pub fn get(&self) -> Result<String, LogError> {
        self.filter
            .with_current(ToString::to_string)
            .map_err(LogError::Reload)
    }

    /// Puts other directives in force.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = parse(level)?;
        self.filter.reload(filter).map_err(LogError::Reload)
    }
}

fn parse(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|source| LogError::Level {
            level: level.to_owned(),
            source,
        })
}

/// Sends the log to standard error: standard output is for what a command was asked for.
pub fn start(level: &str, format: LogFormat) -> Result<LogLevel, LogError> {
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_| LogError::AlreadySet)?;
    Ok(LogLevel { filter: handle })
}

#[cfg(test)]
impl LogLevel {
    /// A level that nobody logs by; the filter must live as long as the handle.
    pub(crate) fn for_test() -> Self {
        let filter = parse("info").expect("a level");
        let (filter, handle) = reload::Layer::new(filter);
        let subscriber = tracing_subscriber::registry().with(filter);
        Box::leak(Box::new(subscriber));
        Self { filter: handle }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_level_can_be_read_and_changed() {
        let level = LogLevel::for_test();
        assert_eq!(level.get().unwrap(), "info");
        level.set("warn,maille_proxy::xds=debug").unwrap();
        assert_eq!(level.get().unwrap(), "maille_proxy::xds=debug,warn");
    }

    #[test]
    fn what_is_no_level_is_refused_with_an_example() {
        let refused = parse("info,=,").unwrap_err().to_string();
        assert!(refused.contains("write one such as"), "{refused}");
    }
}
