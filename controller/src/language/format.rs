//! What text may be: names, paths, headers, addresses, expressions. Each says what is wrong and what to do.

use std::net::{IpAddr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};

/// What text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Anything.
    Any,
    /// An RFC 1123 label: `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, up to 63.
    Label,
    /// Labels with dots between, up to 253.
    Subdomain,
    /// A label's key: an optional DNS prefix with `/`, and a name up to 63.
    LabelKey,
    /// A label's value: up to 63, may be empty.
    LabelValue,
    /// A port's name: an RFC 1123 label with at least one letter, up to 15.
    PortName,
    /// `v1` and the like: anything; checked where the kind is chosen.
    ApiGroup,
    /// A path that starts with `/`.
    Path,
    /// A path's value: a path, or a regular expression; checked with its type.
    PathValue,
    /// A path, exact or with one `*` at the end.
    PathPattern,
    /// A header's name (RFC 9110 token).
    HeaderName,
    /// A header's value.
    HeaderValue,
    /// An HTTP method in upper case.
    Method,
    /// A host's name, without a port.
    Hostname,
    /// A v4 or v6 address.
    Address,
    /// An address with a port; v6 in brackets.
    SocketAddress,
    /// A v4 range.
    Cidr4,
    /// A v6 range.
    Cidr6,
    /// A SPIFFE id, exact or with one `*` at the end.
    IdentityPattern,
    /// `<region>` or `<region>/<zone>`.
    Locality,
}

impl Format {
    /// For the reference.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Any | Self::ApiGroup => "text",
            Self::Label => "RFC 1123 label",
            Self::Subdomain => "RFC 1123 subdomain",
            Self::LabelKey => "label key",
            Self::LabelValue => "label value",
            Self::PortName => "port name",
            Self::Path => "path",
            Self::PathValue => "path or regular expression",
            Self::PathPattern => "path, or a prefix with `*` at the end",
            Self::HeaderName => "header name",
            Self::HeaderValue => "header value",
            Self::Method => "HTTP method",
            Self::Hostname => "host name",
            Self::Address => "IP address",
            Self::SocketAddress => "IP address and port",
            Self::Cidr4 => "IPv4 range",
            Self::Cidr6 => "IPv6 range",
            Self::IdentityPattern => "SPIFFE id, or a prefix with `*` at the end",
            Self::Locality => "`<region>` or `<region>/<zone>`",
        }
    }

    /// Why the text is not of this format, and what to do.
    pub(super) fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Any | Self::PathValue | Self::ApiGroup => Ok(()),
            Self::Label => expect(is_label(text, 63), || {
                format!(
                    "`{text}` is not a name; use up to 63 lower-case letters, digits and `-`, with a letter or digit at both ends"
                )
            }),
            Self::Subdomain => expect(
                text.len() <= 253 && text.split('.').all(|label| is_label(label, 63)),
                || {
                    format!(
                        "`{text}` is not a name; use lower-case letters, digits, `-` and `.`, up to 253"
                    )
                },
            ),
            Self::LabelKey => expect(is_label_key(text), || {
                format!(
                    "`{text}` is not a label's key; use up to 63 letters, digits, `-`, `_` and `.`, with a DNS prefix and `/` before it if need be"
                )
            }),
            Self::LabelValue => expect(text.is_empty() || is_label_part(text), || {
                format!(
                    "`{text}` is not a label's value; use up to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends"
                )
            }),
            Self::PortName => expect(
                is_label(text, 15) && text.bytes().any(|byte| byte.is_ascii_lowercase()),
                || {
                    format!(
                        "`{text}` is not a port's name; use up to 15 lower-case letters, digits and `-`, with at least one letter"
                    )
                },
            ),
            Self::Path => check_path(text),
            Self::PathPattern => check_path_pattern(text),
            Self::HeaderName => expect(is_token(text), || {
                format!(
                    "`{text}` is not a header's name; use letters, digits and `-`, without a colon"
                )
            }),
            Self::HeaderValue => expect(
                text.bytes()
                    .all(|byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f)),
                || {
                    "a header's value has no control characters and no line ends; take them out"
                        .to_owned()
                },
            ),
            Self::Method => expect(
                is_token(text) && !text.bytes().any(|byte| byte.is_ascii_lowercase()),
                || format!("`{text}` is not a method; write it in upper case, for example GET"),
            ),
            Self::Hostname => expect(
                text.len() <= 253 && text.split('.').all(|label| is_label(label, 63)),
                || {
                    format!(
                        "`{text}` is not a host name; write it in lower case, without scheme and port"
                    )
                },
            ),
            Self::Address => expect(text.parse::<IpAddr>().is_ok(), || {
                format!("`{text}` is not an IP address; write 192.0.2.1 or 2001:db8::1")
            }),
            Self::SocketAddress => check_socket_address(text),
            Self::Cidr4 => expect(text.parse::<Ipv4Net>().is_ok(), || {
                format!("`{text}` is not an IPv4 range; write for example 240.0.0.0/4")
            }),
            Self::Cidr6 => expect(text.parse::<Ipv6Net>().is_ok(), || {
                format!("`{text}` is not an IPv6 range; write for example fd00:1234::/64")
            }),
            Self::IdentityPattern => check_identity(text),
            Self::Locality => check_locality(text),
        }
    }
}

fn expect(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

fn is_label(text: &str, most: usize) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=most).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_label_part(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    (1..=63).contains(&text.len())
        && ends(text.bytes().next())
        && ends(text.bytes().last())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => Format::Subdomain.check(prefix).is_ok() && is_label_part(name),
        None => is_label_part(text),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn check_path(text: &str) -> Result<(), String> {
    let clean = text.starts_with('/')
        && !text.contains(['?', '#', ' ', '*'])
        && !text.contains("//")
        && !text.contains("/./")
        && !text.contains("/../")
        && !text.ends_with("/.")
        && !text.ends_with("/..")
        && !text.bytes().any(|byte| byte.is_ascii_control());
    expect(clean, || {
        format!("`{text}` is not a path; start it with `/`, without query, `*`, `//`, `.` and `..`")
    })
}

fn check_path_pattern(text: &str) -> Result<(), String> {
    let exact = text.strip_suffix('*').unwrap_or(text);
    if text == "*" {
        Ok(())
    } else {
        check_path(exact)
    }
}

fn check_socket_address(text: &str) -> Result<(), String> {
    let address = text.parse::<SocketAddr>();
    expect(address.is_ok_and(|address| address.port() != 0), || {
        format!("`{text}` is not an address with a port; write 127.0.0.1:8080 or [::1]:8080")
    })
}

fn check_identity(text: &str) -> Result<(), String> {
    let exact = text.strip_suffix('*').unwrap_or(text);
    let id = exact.strip_prefix("spiffe://");
    let fits = id.is_some_and(|id| !id.is_empty() && !id.contains(['*', ' ', '?', '#']))
        || (text.ends_with('*') && "spiffe://".starts_with(exact));
    let whole = text.ends_with('*') || id.is_some_and(|id| id.contains('/') && !id.ends_with('/'));
    expect(fits && whole, || {
        format!(
            "`{text}` is not a SPIFFE id; write spiffe://<trust domain>/ns/<namespace>/sa/<service account>, with at most one `*`, at the end"
        )
    })
}

fn check_locality(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split('/').collect();
    expect(
        parts.len() <= 2 && parts.iter().all(|part| is_label_part(part)),
        || format!("`{text}` is not a locality; write `<region>` or `<region>/<zone>`"),
    )
}
