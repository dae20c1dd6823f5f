//! Headers: what belongs to one hop only, what is forged, what a route changes.

use crate::snapshot::HeaderChanges;
use http::header::{CONNECTION, CONTENT_TYPE, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

/// Who the client is, as its verified certificate says (Envoy's XFCC).
pub const FORWARDED_CLIENT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Removes what one hop says to the next (RFC 9110 §7.6.1). `te: trailers` stays: it says that the client takes trailers.
pub fn forget_hops(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        forget_named(headers);
    }
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    if let Some(te) = headers.get(TE)
        && te != TRAILERS
    {
        let trailers = te.to_str().is_ok_and(|te| {
            te.split(',')
                .any(|one| one.trim().eq_ignore_ascii_case("trailers"))
        });
        headers.remove(TE);
        if trailers {
            headers.insert(TE, TRAILERS);
        }
    }
}

/// A response without what belongs to its hop; a 101 keeps the protocol that it agrees to.
pub fn clean_response<B>(response: &mut Response<B>) {
    let agreed = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
        .then(|| response.headers_mut().remove(UPGRADE))
        .flatten();
    forget_hops(response.headers_mut());
    if let Some(agreed) = agreed {
        response.headers_mut().insert(UPGRADE, agreed);
    }
}

fn forget_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        // `Connection: te` is how HTTP/1 sends `te: trailers`, which goes on.
        .filter(|name| *name != TE)
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
}

/// Applies a route's changes.
pub fn change(headers: &mut HeaderMap, changes: &HeaderChanges) {
    for name in &changes.remove {
        headers.remove(name);
    }
    for set in &changes.set {
        if set.append {
            headers.append(set.name.clone(), set.value.clone());
        } else {
            headers.insert(set.name.clone(), set.value.clone());
        }
    }
}

/// Whether errors are told as gRPC statuses.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let rest = value.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| rest.first().is_none_or(|next| matches!(next, b'+' | b';')))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::snapshot::HeaderChange;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        let mut map = HeaderMap::new();
        for (name, value) in lines.iter().map(parse) {
            map.append(name, value);
        }
        map
    }

    #[track_caller]
    fn check(before: &[(&str, &str)], after: &[(&str, &str)]) {
        let mut map = headers(before);
        forget_hops(&mut map);
        assert_eq!(map, headers(after));
    }

    #[test]
    fn what_belongs_to_one_hop_ends_there() {
        check(
            &[("host", "a"), ("accept", "*/*")],
            &[("host", "a"), ("accept", "*/*")],
        );
        check(
            &[
                ("connection", "keep-alive, X-Hop"),
                ("x-hop", "1"),
                ("x-end", "2"),
            ],
            &[("x-end", "2")],
        );
        check(
            &[("connection", "close"), ("connection", "x-a"), ("x-a", "1")],
            &[],
        );
        check(
            &[("transfer-encoding", "chunked"), ("trailer", "x")],
            &[("trailer", "x")],
        );
        check(&[("connection", "upgrade"), ("upgrade", "websocket")], &[]);
        check(
            &[("keep-alive", "timeout=5"), ("proxy-connection", "close")],
            &[],
        );
        check(&[("te", "trailers")], &[("te", "trailers")]);
        check(&[("connection", "te"), ("te", "gzip, Trailers;q=0.5")], &[]);
        check(
            &[("connection", "te"), ("te", "gzip, trailers")],
            &[("te", "trailers")],
        );
    }

    #[test]
    fn changes_remove_then_set_then_add() {
        let mut map = headers(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let set = |name: &'static str, value: &'static str, append| HeaderChange {
            name: HeaderName::from_static(name),
            value: HeaderValue::from_static(value),
            append,
        };
        let changes = HeaderChanges {
            set: vec![set("b", "new", false), set("c", "more", true)],
            remove: vec![HeaderName::from_static("a")],
        };
        change(&mut map, &changes);
        assert_eq!(map, headers(&[("b", "new"), ("c", "3"), ("c", "more")]));
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let grpc = |value: &str| is_grpc(&headers(&[("content-type", value)]));
        assert!(
            grpc("application/grpc")
                && grpc("application/grpc+proto")
                && grpc("application/grpc;x")
        );
        assert!(
            !grpc("application/grpc-web") && !grpc("text/plain") && !is_grpc(&HeaderMap::new())
        );
    }
}
