//! What a connection speaks, from its first bytes. Pure: who reads, and how long it waits, is `inbound`'s and `outbound`'s.

/// What HTTP/2 opens with (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest HTTP/1 request line that is waited for; what is longer without its end is opaque.
const REQUEST_LINE: usize = 8 * 1024;
/// The longest method registered with IANA has 17 letters; WebDAV's relatives and people's own fit too.
const METHOD: usize = 24;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS ClientHello: the application's own TLS.
    Tls,
    /// Anything else.
    Opaque,
}

impl Detected {
    /// As metrics and the log say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::Opaque => "opaque",
        }
    }
}

/// Judges the first bytes. None: it could still be several things, more bytes are needed.
pub fn detect(bytes: &[u8]) -> Option<Detected> {
    if bytes.is_empty() {
        return None;
    }
    if bytes[0] == 0x16 {
        return detect_tls(bytes);
    }
    let known = bytes.len().min(HTTP2_PREFACE.len());
    if bytes[..known] == HTTP2_PREFACE[..known] {
        return (known == HTTP2_PREFACE.len()).then_some(Detected::Http2);
    }
    detect_http1(bytes)
}

/// A handshake record (22), version 3.x, whose first message is a ClientHello (1) (RFC 8446 §5.1, §4).
fn detect_tls(bytes: &[u8]) -> Option<Detected> {
    let plausible =
        |index: usize, expected: u8| bytes.get(index).is_none_or(|byte| *byte == expected);
    if !plausible(1, 0x03) || !plausible(5, 0x01) {
        return Some(Detected::Opaque);
    }
    (bytes.len() > 5).then_some(Detected::Tls)
}

/// A method, one space, a target, one space, `HTTP/1.` (RFC 9112 §3). A target that starts with `/` after a method in
/// capitals is enough, so that a request line that comes in pieces is not waited for.
fn detect_http1(bytes: &[u8]) -> Option<Detected> {
    let method = bytes.iter().position(|byte| !is_token(*byte));
    let Some(end) = method else {
        return (bytes.len() > METHOD).then_some(Detected::Opaque);
    };
    if end == 0 || end > METHOD || bytes[end] != b' ' {
        return Some(Detected::Opaque);
    }
    let capitals = bytes[..end]
        .iter()
        .all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    if capitals && bytes.get(end + 1) == Some(&b'/') {
        return Some(Detected::Http1);
    }
    let Some(line) = bytes.iter().position(|byte| *byte == b'\n') else {
        let hopeless =
            bytes.len() > REQUEST_LINE || bytes[end..].iter().any(|byte| !is_text(*byte));
        return hopeless.then_some(Detected::Opaque);
    };
    let line = bytes[..line].trim_ascii_end();
    let version = line
        .iter()
        .rposition(|byte| *byte == b' ')
        .map(|space| &line[space + 1..]);
    match version {
        Some(b"HTTP/1.1" | b"HTTP/1.0") => Some(Detected::Http1),
        _ => Some(Detected::Opaque),
    }
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    byte == b'\r' || byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn check(bytes: &[u8], expected: Option<Detected>) {
        assert_eq!(detect(bytes), expected, "{}", bytes.escape_ascii());
    }

    #[test]
    fn first_bytes_name_the_protocol() {
        check(b"", None);
        check(b"G", None);
        check(b"GET ", None);
        check(b"GET /", Some(Detected::Http1));
        check(b"POST /x HTTP/1.1\r\n", Some(Detected::Http1));
        check(b"OPTIONS * HTTP/1.1\r\n", Some(Detected::Http1));
        check(b"CONNECT a.example:443 HTTP/1.1\r\n", Some(Detected::Http1));
        check(b"CONNECT a.exam", None);
        check(b"GET http://a.example/ HTTP/1.0\r\n", Some(Detected::Http1));
        check(b"M-SEARCH /", Some(Detected::Http1));
        check(b"PRI", None);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Detected::Http2));
        check(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore",
            Some(Detected::Http2),
        );
        check(b"PRIX /", Some(Detected::Http1));
        check(b"\x16", None);
        check(b"\x16\x03\x01\x02\x00", None);
        check(b"\x16\x03\x01\x02\x00\x01", Some(Detected::Tls));
        check(b"\x16\x03\x01\x02\x00\x02", Some(Detected::Opaque));
        check(b"\x16\x02", Some(Detected::Opaque));
        check(b"QUIT\r\n", Some(Detected::Opaque));
        check(b"get key\r\n", Some(Detected::Opaque));
        check(b"GET key\r\n", Some(Detected::Opaque));
        check(b"*1\r\n$4\r\nPING\r\n", Some(Detected::Opaque));
        check(b"SSH-2.0-OpenSSH\r\n", Some(Detected::Opaque));
        check(b"\x00\x00", Some(Detected::Opaque));
        check(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", Some(Detected::Opaque));
        check(b"AUTH \x00secret", Some(Detected::Opaque));
    }

    proptest! {
        #[test]
        fn what_is_decided_stays_decided(bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            let first = (1..=bytes.len()).find_map(|length| detect(&bytes[..length]));
            if let Some(first) = first {
                prop_assert_eq!(detect(&bytes), Some(first));
            }
        }

        #[test]
        fn every_request_line_is_http(method in "[A-Z]{1,10}", path in "/[a-z0-9/]{0,40}") {
            let line = format!("{method} {path} HTTP/1.1\r\n");
            prop_assert_eq!(detect(line.as_bytes()), Some(Detected::Http1));
        }
    }
}
