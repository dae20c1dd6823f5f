//! What every message has in common: nothing unknown in it, a name, metadata, durations, ports.

use bytes::Bytes;
use prost::{Message, Name};
use regex::{Regex, RegexBuilder};
use std::fmt;
use std::time::Duration;
use xds_api::envoy::config::core::v3::{ConfigSource, Metadata, config_source};
use xds_api::google::protobuf;

/// Where the dialect puts what Envoy has no field for.
const METADATA: &str = "maille.v1";
/// A compiled pattern larger than this would take more memory than a whole table of routes.
const REGEX_SIZE: usize = 1 << 20;

/// Why a resource is refused: the field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    path: String,
    message: String,
}

impl Invalid {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            message: message.into(),
        }
    }

    /// Puts a field's name before the path.
    pub(super) fn within(mut self, field: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => field.to_owned(),
            rest if rest.starts_with('[') => format!("{field}{rest}"),
            rest => format!("{field}.{rest}"),
        };
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => out.write_str(&self.message),
            path => write!(out, "{path}: {}", self.message),
        }
    }
}

/// Names the field in which a step fails.
pub(super) trait Within<T> {
    fn within(self, field: &str) -> Result<T, Invalid>;
    fn within_item(self, field: &str, index: usize) -> Result<T, Invalid>;
}

impl<T> Within<T> for Result<T, Invalid> {
    fn within(self, field: &str) -> Self {
        self.map_err(|error| error.within(field))
    }

    fn within_item(self, field: &str, index: usize) -> Self {
        self.map_err(|error| error.within(&format!("{field}[{index}]")))
    }
}

pub(super) fn invalid<T>(field: &str, message: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid::new(message).within(field))
}

/// Decodes a message that holds nothing which this version does not know. An encoder that leaves defaults out, as all do,
/// writes exactly as many bytes as we would.
pub(super) fn decode<M: Message + Name + Default>(body: Bytes) -> Result<M, Invalid> {
    let length = body.len();
    let kind = M::NAME;
    let message = M::decode(body)
        .map_err(|error| Invalid::new(format!("the bytes are no {kind}: {error}")))?;
    let known = message.encoded_len();
    if known == length {
        return Ok(message);
    }
    let unknown = length.saturating_sub(known);
    Err(Invalid::new(format!(
        "{kind} has fields that this version does not know ({unknown} bytes); upgrade the proxy"
    )))
}

/// Decodes an `Any` that must hold an `M`.
pub(super) fn unpack<M: Message + Name + Default>(any: protobuf::Any) -> Result<M, Invalid> {
    if any.type_url == M::type_url() {
        return decode(any.value);
    }
    let wanted = M::NAME;
    Err(Invalid::new(format!(
        "holds {:?}, not {wanted}",
        any.type_url
    )))
}

/// The dialect's own message in a resource's metadata; nothing else may stand there.
pub(super) fn metadata<M: Message + Name + Default>(
    metadata: Option<Metadata>,
) -> Result<M, Invalid> {
    let metadata = metadata.unwrap_or_default();
    if let Some(other) = metadata.filter_metadata.keys().next() {
        return invalid(other, "is not known here").within("metadata.filter_metadata");
    }
    let mut all = metadata.typed_filter_metadata;
    let own = all.remove(METADATA);
    let result = match (own, all.keys().next()) {
        (_, Some(other)) => invalid(other, "is not known here"),
        (None, None) => invalid(METADATA, "is missing"),
        (Some(any), None) => unpack(any).within(METADATA),
    };
    result.within("metadata.typed_filter_metadata")
}

/// The message must carry the name that the resource has.
pub(super) fn check_name(field: &str, found: &str, name: &str) -> Result<(), Invalid> {
    if found == name {
        return Ok(());
    }
    invalid(
        field,
        format!("{found:?} differs from the resource's name {name:?}"),
    )
}

pub(super) fn present<T>(field: &str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new("is missing").within(field))
}

pub(super) fn not_empty(field: &str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return invalid(field, "is empty");
    }
    Ok(())
}

/// The same stream is the only source there is.
pub(super) fn check_ads(field: &str, source: Option<&ConfigSource>) -> Result<(), Invalid> {
    let specifier = source.and_then(|source| source.config_source_specifier.as_ref());
    match specifier {
        Some(config_source::ConfigSourceSpecifier::Ads(_)) => Ok(()),
        _ => invalid(field, "must be `ads`"),
    }
}

pub(super) fn port(field: &str, port: u32) -> Result<u16, Invalid> {
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => invalid(field, format!("{port} is no port")),
    }
}

/// A duration that is there and not negative.
pub(super) fn duration(field: &str, value: &protobuf::Duration) -> Result<Duration, Invalid> {
    let seconds = u64::try_from(value.seconds);
    let nanos = u32::try_from(value.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000);
    match (seconds, nanos) {
        (Ok(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => invalid(field, "is no duration from zero up"),
    }
}

pub(super) fn optional_duration(
    field: &str,
    value: Option<&protobuf::Duration>,
) -> Result<Option<Duration>, Invalid> {
    value.map(|value| duration(field, value)).transpose()
}

/// A pattern as it stands.
pub(super) fn regex(field: &str, pattern: &str) -> Result<Regex, Invalid> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_SIZE)
        .build()
        .or_else(|error| invalid(field, format!("{pattern:?} is no pattern: {error}")))
}

/// A pattern that must match the whole text, as Envoy's matchers do.
pub(super) fn whole_regex(field: &str, pattern: &str) -> Result<Regex, Invalid> {
    // The pattern alone first: an unbalanced one could become balanced by what is put around it.
    regex(field, pattern)?;
    regex(field, &format!("^(?:{pattern})$"))
}
