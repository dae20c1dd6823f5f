//! Calls of gRPC as requests: what a `GRPCRoute` matches in `HTTPRoute`'s terms, and Gateway API's precedence among its matches.

use std::cmp::Reverse;

use super::matching::Precedence;
use crate::model::kinds::grpc_route::{GrpcMatch, MethodMatch};
use crate::model::kinds::http_route::{Match, PathMatch, PathMatchType, ValueMatchType};

/// The method of every call.
pub(in crate::xds) const POST: &str = "POST";
/// A name that is not asked about.
const ANY: &str = "[^/]+";

/// A call is `POST /<service>/<method>`.
pub(in crate::xds) fn as_request(one: &GrpcMatch) -> Match {
    Match {
        path: one.method.as_ref().and_then(path),
        headers: one.headers.clone(),
        query_params: Vec::new(),
        method: Some(POST.to_owned()),
    }
}

fn path(method: &MethodMatch) -> Option<PathMatch> {
    let (match_type, value) = match (method.match_type, &method.service, &method.method) {
        (_, None, None) => return None,
        (ValueMatchType::Exact, Some(service), Some(method)) => {
            (PathMatchType::Exact, format!("/{service}/{method}"))
        }
        (ValueMatchType::Exact, Some(service), None) => {
            (PathMatchType::PathPrefix, format!("/{service}"))
        }
        // The name of a method has no letter that means something in an expression.
        (_, service, method) => {
            let part = |text: &Option<String>| match text {
                Some(text) => format!("(?:{text})"),
                None => ANY.to_owned(),
            };
            let value = format!("/{}/{}", part(service), part(method));
            (PathMatchType::RegularExpression, value)
        }
    };
    Some(PathMatch { match_type, value })
}

/// Where a condition stands: by the service, then by the method, then by how many headers. An exact name comes before an expression, and both before
/// none; Gateway API counts characters, which orders expressions.
pub(in crate::xds) fn precedence(one: &GrpcMatch) -> Precedence {
    let nothing = MethodMatch::default();
    let method = one.method.as_ref().unwrap_or(&nothing);
    let rank = |text: &Option<String>| match (text, method.match_type) {
        (Some(text), ValueMatchType::Exact) => (0, Reverse(text.len())),
        (Some(text), ValueMatchType::RegularExpression) => (1, Reverse(text.len())),
        (None, _) => (2, Reverse(0)),
    };
    let (service, method) = (rank(&method.service), rank(&method.method));
    let headers = Reverse(one.headers.len());
    (
        service.0,
        service.1,
        method.0,
        method.1,
        headers,
        Reverse(0),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(json: &str) -> GrpcMatch {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_method_is_a_path() {
        let check = |json: &str, expected: Option<(PathMatchType, &str)>| {
            let found = as_request(&read(&format!("{{\"method\":{json}}}"))).path;
            let found = found
                .as_ref()
                .map(|path| (path.match_type, path.value.as_str()));
            assert_eq!(found, expected, "{json}");
        };
        check("{}", None);
        check(
            r#"{"service":"shop.Cart","method":"Add"}"#,
            Some((PathMatchType::Exact, "/shop.Cart/Add")),
        );
        check(
            r#"{"service":"shop.Cart"}"#,
            Some((PathMatchType::PathPrefix, "/shop.Cart")),
        );
        check(
            r#"{"method":"Add"}"#,
            Some((PathMatchType::RegularExpression, "/[^/]+/(?:Add)")),
        );
        check(
            r#"{"type":"RegularExpression","service":"shop[.]C.*|x"}"#,
            Some((PathMatchType::RegularExpression, "/(?:shop[.]C.*|x)/[^/]+")),
        );
    }

    #[test]
    fn the_service_comes_before_the_method_and_that_before_headers() {
        let ordered = [
            r#"{"method":{"service":"a","method":"m"},"headers":[{"name":"x","value":"1"}]}"#,
            r#"{"method":{"service":"a","method":"m"}}"#,
            r#"{"method":{"service":"a"},"headers":[{"name":"x","value":"1"}]}"#,
            r#"{"method":{"service":"a"}}"#,
            r#"{"method":{"type":"RegularExpression","service":"a.*long"}}"#,
            r#"{"method":{"type":"RegularExpression","service":"a.*","method":"m"}}"#,
            r#"{"method":{"method":"method"}}"#,
            r#"{"method":{"type":"RegularExpression","method":"m.*"}}"#,
            r#"{"headers":[{"name":"x","value":"1"},{"name":"y","value":"1"}]}"#,
            r#"{"headers":[{"name":"x","value":"1"}]}"#,
            "{}",
        ];
        let ranks = ordered.map(|json| precedence(&read(json)));
        assert!(ranks.is_sorted_by(|one, next| one < next), "{ranks:?}");
    }
}
