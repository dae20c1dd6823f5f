//! Where a request goes instead: rewritten paths and redirects. Pure.

use super::body::Body;
use crate::snapshot::{PathMatch, PathRewrite, Redirect, RedirectPath};
use bytes::Bytes;
use http::header::{HOST, LOCATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Response, Uri};

/// The request's target with its path changed. None: the result is no path.
pub fn rewrite(uri: &Uri, matched: &PathMatch, rewrite: &PathRewrite) -> Option<Uri> {
    let path = match rewrite {
        PathRewrite::Prefix(prefix) => replace_prefix(uri.path(), matched, prefix),
        PathRewrite::Regex(pattern, by) => pattern.replace_all(uri.path(), &**by).into_owned(),
    };
    let path = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

/// Replaces what matched. By segments, `/a` → `/` of `/a/b` is `/b`, not `//b` (Gateway API, ReplacePrefixMatch).
fn replace_prefix(path: &str, matched: &PathMatch, by: &str) -> String {
    let (prefix, segments) = match matched {
        PathMatch::Segments(prefix) => (&**prefix, true),
        PathMatch::Prefix(prefix) | PathMatch::Exact(prefix) => (&**prefix, false),
        PathMatch::Regex(_) => (path, false),
    };
    let rest = path.strip_prefix(prefix).unwrap_or_default();
    if segments && rest.starts_with('/') {
        return format!("{}{rest}", by.trim_end_matches('/'));
    }
    match format!("{by}{rest}") {
        whole if whole.is_empty() => "/".to_owned(),
        whole => whole,
    }
}

/// The answer that sends the client elsewhere.
pub fn redirect(request: &Parts, matched: &PathMatch, to: &Redirect) -> Response<Body> {
    let host = request.uri.authority().map(http::uri::Authority::as_str);
    let host = host.or_else(|| {
        request
            .headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
    });
    let (host, own_port) = split_port(host.unwrap_or_default());
    let host = to.host.as_deref().unwrap_or(host);
    let scheme = to.scheme.as_deref().unwrap_or("http");
    let default = if scheme == "https" { 443 } else { 80 };
    // A new scheme or host without a port means that scheme's port (Gateway API, HTTPRequestRedirectFilter.port).
    let kept = if to.scheme.is_some() { None } else { own_port };
    let port = to.port.or(kept).filter(|port| *port != default);
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let path = redirected_path(&request.uri, matched, to.path.as_ref());
    let location = format!("{scheme}://{host}{port}{path}");
    let mut response = Response::new(Body::full(Bytes::new()));
    *response.status_mut() = to.status;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn redirected_path(uri: &Uri, matched: &PathMatch, path: Option<&RedirectPath>) -> String {
    let query = uri
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    match path {
        None => format!("{}{query}", uri.path()),
        Some(RedirectPath::Whole(whole)) if whole.contains('?') => whole.to_string(),
        Some(RedirectPath::Whole(whole)) => format!("{whole}{query}"),
        Some(RedirectPath::Prefix(by)) => {
            format!("{}{query}", replace_prefix(uri.path(), matched, by))
        }
    }
}

/// `host:port`, v6 in brackets.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::{Request, StatusCode};

    #[track_caller]
    fn check(uri: &str, matched: PathMatch, by: PathRewrite, expected: &str) {
        let uri: Uri = uri.parse().unwrap();
        assert_eq!(rewrite(&uri, &matched, &by).unwrap().to_string(), expected);
    }

    #[test]
    fn prefixes_and_patterns_are_replaced_and_queries_stay() {
        let segments = |prefix: &str| PathMatch::Segments(prefix.into());
        let prefix = |by: &str| PathRewrite::Prefix(by.into());
        check("/a/b?q=1", segments("/a"), prefix("/x"), "/x/b?q=1");
        check("/a", segments("/a"), prefix("/x"), "/x");
        check("/a/b", segments("/a"), prefix("/"), "/b");
        check("/a", segments("/a"), prefix("/"), "/");
        check("/a/b", PathMatch::Prefix("/a/".into()), prefix("/"), "/b");
        check("/a/b", segments(""), prefix("/x"), "/x/a/b");
        let whole = PathRewrite::Regex(regex::Regex::new("^/.*$").unwrap(), "/all".into());
        check("/a/b?q", segments("/a"), whole, "/all?q");
        let group = PathRewrite::Regex(regex::Regex::new("/v([0-9])").unwrap(), "/w${1}".into());
        check("http://h/v1/v2", segments(""), group, "http://h/w1/w2");
    }

    #[track_caller]
    fn check_redirect(host: &str, to: Redirect, expected: &str) {
        let request = Request::builder()
            .uri("/a/b?q=1")
            .header(HOST, host)
            .body(())
            .unwrap();
        let response = redirect(
            &request.into_parts().0,
            &PathMatch::Segments("/a".into()),
            &to,
        );
        assert_eq!(response.headers()[LOCATION], expected);
        assert_eq!(response.status(), to.status);
    }

    #[test]
    fn redirects_change_what_they_name() {
        let to = |scheme: Option<&str>, host: Option<&str>, port, path| Redirect {
            status: StatusCode::FOUND,
            scheme: scheme.map(Into::into),
            host: host.map(Into::into),
            port,
            path,
        };
        check_redirect(
            "h:8080",
            to(None, None, None, None),
            "http://h:8080/a/b?q=1",
        );
        check_redirect(
            "h:8080",
            to(Some("https"), None, None, None),
            "https://h/a/b?q=1",
        );
        check_redirect(
            "h",
            to(Some("https"), None, Some(8443), None),
            "https://h:8443/a/b?q=1",
        );
        check_redirect(
            "h",
            to(None, Some("o.example"), Some(80), None),
            "http://o.example/a/b?q=1",
        );
        let whole = Some(RedirectPath::Whole("/new".into()));
        check_redirect(
            "[::1]:90",
            to(None, None, None, whole),
            "http://[::1]:90/new?q=1",
        );
        let prefix = Some(RedirectPath::Prefix("/".into()));
        check_redirect("h", to(None, None, None, prefix), "http://h/b?q=1");
    }
}
