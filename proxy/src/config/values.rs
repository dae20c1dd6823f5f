//! Checked values that the configuration is made of.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A place to connect to, by name or by address. A v6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A DNS name or an address without brackets.
    pub host: String,
    /// From 1 to 65535.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "must be host:port, a v6 address in brackets";
        let (host, port) = text.rsplit_once(':').ok_or(WANTED)?;
        let port = port.parse().map_err(|_| WANTED)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or(WANTED)?,
            None => host,
        };
        let bare_v6 = !text.starts_with('[') && host.contains(':');
        if host.is_empty() || port == 0 || bare_v6 || host.contains(['/', ' ']) {
            return Err(WANTED);
        }
        let host = host.to_owned();
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A name as Kubernetes takes it for namespaces and services (RFC 1123 label).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Label(String);

impl Label {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let edges = text.starts_with('-') || text.ends_with('-');
        if text.is_empty() || text.len() > 63 || edges || !text.bytes().all(legal) {
            return Err("must be 1 to 63 of a-z, 0-9 and -, with no - at either end");
        }
        Ok(Self(text.to_owned()))
    }
}

/// A service account's name, as it stands in SPIFFE ids (RFC 1123 subdomain).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Account(String);

impl Account {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Account {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let labels = text.split('.').all(|part| part.parse::<Label>().is_ok());
        if text.len() > 253 || !labels {
            return Err(
                "must be 1 to 253 of a-z, 0-9, - and ., with no - or . at either end of a part",
            );
        }
        Ok(Self(text.to_owned()))
    }
}

/// How the bytes of a port are understood; the words of the mesh's own language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// From the first bytes.
    #[default]
    Detect,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Opaque bytes, server-first protocols included.
    Tcp,
    /// The application's own TLS, passed through.
    Tls,
}

impl FromStr for Protocol {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "detect" => Self::Detect,
            "http1" | "http" => Self::Http1,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "tcp" => Self::Tcp,
            "tls" => Self::Tls,
            _ => return Err("must be detect, http1 (or http), http2, grpc, tcp or tls"),
        })
    }
}

/// What happens to a connection towards a destination that the mesh does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// It is passed on as it is.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

impl FromStr for Egress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "allow" => Ok(Self::Allow),
            "deny" => Ok(Self::Deny),
            _ => Err("must be allow or deny"),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text or json"),
        }
    }
}

/// A duration as people write it: `500ms`, `5s`, `2m`, `1h`.
pub(super) struct Span(pub(super) Duration);

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "must be a duration such as 500ms, 5s, 2m or 1h";
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| WANTED)?;
        let millis = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => None,
        };
        Ok(Self(Duration::from_millis(millis.ok_or(WANTED)?)))
    }
}

/// Writes a duration so that it can be read again.
pub(super) fn span<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    match duration.subsec_millis() {
        0 => serializer.collect_str(&format_args!("{}s", duration.as_secs())),
        _ => serializer.collect_str(&format_args!("{}ms", duration.as_millis())),
    }
}
