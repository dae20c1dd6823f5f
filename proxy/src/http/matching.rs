//! Which route a request takes: the first whose every part matches. Pure.

use crate::snapshot::{
    HeaderMatch, HeaderTest, PathMatch, QueryMatch, Route, RouteMatch, TextTest,
};
use http::HeaderMap;
use http::request::Parts;
use std::borrow::Cow;

/// The place of the first route that matches.
pub fn select(routes: &[Route], request: &Parts) -> Option<usize> {
    routes
        .iter()
        .position(|route| matches(&route.matches, request))
}

fn matches(wanted: &RouteMatch, request: &Parts) -> bool {
    let path = match request.uri.path() {
        // CONNECT has no path, and `OPTIONS *` means the server (RFC 9112 §3.2.3, §3.2.4).
        "" | "*" => "/",
        path => path,
    };
    wanted.path.matches(path)
        && wanted
            .method
            .as_ref()
            .is_none_or(|test| test.passes(request.method.as_str()))
        && wanted
            .headers
            .iter()
            .all(|wanted| header(wanted, &request.headers))
        && wanted
            .query
            .iter()
            .all(|wanted| query(wanted, request.uri.query().unwrap_or_default()))
}

impl PathMatch {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(whole) => path == &**whole,
            Self::Prefix(prefix) => path.starts_with(&**prefix),
            Self::Segments(prefix) => {
                let rest = path.strip_prefix(&**prefix);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(pattern) => whole(pattern, path),
        }
    }
}

impl TextTest {
    fn passes(&self, text: &str) -> bool {
        match self {
            Self::Exact(whole) => text == &**whole,
            Self::Regex(pattern) => whole(pattern, text),
        }
    }
}

/// Patterns mean the whole text; whoever compiled them anchored them at both ends.
fn whole(pattern: &regex::Regex, text: &str) -> bool {
    pattern.is_match(text)
}

fn header(wanted: &HeaderMatch, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(&wanted.name).iter();
    let first = values.next();
    let test = match &wanted.test {
        HeaderTest::Present(present) => return first.is_some() == *present,
        HeaderTest::Value(test) => test,
    };
    let Some(first) = first.and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let mut text = Cow::Borrowed(first);
    for value in values {
        let Ok(value) = value.to_str() else {
            return false;
        };
        text = Cow::Owned(format!("{text},{value}"));
    }
    test.passes(&text)
}

fn query(wanted: &QueryMatch, query: &str) -> bool {
    let named = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*name == *wanted.name).then(|| wanted.test.passes(value))
    };
    query.split('&').find_map(named).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::{HeaderName, Request};
    use regex::Regex;

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[track_caller]
    fn check(wanted: &RouteMatch, request: Parts, expected: bool) {
        assert_eq!(
            matches(wanted, &request),
            expected,
            "{wanted:?} {} {}",
            request.method,
            request.uri
        );
    }

    fn path(path: PathMatch) -> RouteMatch {
        RouteMatch {
            path,
            ..RouteMatch::prefix("/")
        }
    }

    fn regex(pattern: &str) -> Regex {
        Regex::new(&format!("^(?:{pattern})$")).unwrap()
    }

    #[test]
    fn paths_match_whole_by_bytes_by_segments_or_by_pattern() {
        let get = |uri: &str| request("GET", uri, &[]);
        check(&path(PathMatch::Exact("/a".into())), get("/a?x=1"), true);
        check(&path(PathMatch::Exact("/a".into())), get("/a/"), false);
        check(&path(PathMatch::Prefix("/a".into())), get("/ab"), true);
        check(&path(PathMatch::Segments("/a".into())), get("/ab"), false);
        check(&path(PathMatch::Segments("/a".into())), get("/a"), true);
        check(&path(PathMatch::Segments("/a".into())), get("/a/b"), true);
        check(
            &path(PathMatch::Regex(regex("/v[0-9]+/.*"))),
            get("/v12/x"),
            true,
        );
        check(
            &path(PathMatch::Regex(regex("/v[0-9]+"))),
            get("/v12/x"),
            false,
        );
        check(
            &path(PathMatch::Prefix("/".into())),
            request("CONNECT", "a.example:1", &[]),
            true,
        );
    }

    #[test]
    fn methods_headers_and_queries_must_all_hold() {
        let mut wanted = RouteMatch::prefix("/");
        wanted.method = Some(TextTest::Exact("POST".into()));
        wanted.headers.push(HeaderMatch {
            name: HeaderName::from_static("x-version"),
            test: HeaderTest::Value(TextTest::Regex(regex("2,.*"))),
        });
        wanted.headers.push(HeaderMatch {
            name: HeaderName::from_static("x-debug"),
            test: HeaderTest::Present(false),
        });
        wanted.query.push(QueryMatch {
            name: "q".into(),
            test: TextTest::Exact("1".into()),
        });
        let good: &[(&str, &str)] = &[("x-version", "2"), ("x-version", "beta")];
        check(&wanted, request("POST", "/?a&q=1&q=2", good), true);
        check(&wanted, request("GET", "/?q=1", good), false);
        check(&wanted, request("POST", "/?q=2&q=1", good), false);
        check(&wanted, request("POST", "/", good), false);
        check(
            &wanted,
            request("POST", "/?q=1", &[("x-version", "2")]),
            false,
        );
        check(
            &wanted,
            request("POST", "/?q=1", &[("x-version", "2,b"), ("x-debug", "")]),
            false,
        );
    }
}
