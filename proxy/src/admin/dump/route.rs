//! Routes as JSON.

use super::{backends, headers, seconds};
use crate::snapshot::{
    HeaderTest, PathMatch, PathRewrite, RedirectPath, RetryPolicy, Route, RouteAction, RouteMatch,
    Routes, TextTest,
};
use serde_json::{Value, json};

pub(super) fn routes(routes: &Routes) -> Value {
    routes.routes.iter().map(route).collect()
}

fn route(route: &Route) -> Value {
    json!({
        "name": *route.name,
        "match": matches(&route.matches),
        "action": action(&route.action),
        "requestHeaders": headers(&route.request_headers),
        "responseHeaders": headers(&route.response_headers),
    })
}

fn matches(told: &RouteMatch) -> Value {
    let path = match &told.path {
        PathMatch::Exact(text) => json!({ "exact": text }),
        PathMatch::Prefix(text) => json!({ "prefix": text }),
        PathMatch::Segments(text) => json!({ "segments": text }),
        PathMatch::Regex(regex) => json!({ "regex": regex.as_str() }),
    };
    let header = |one: &crate::snapshot::HeaderMatch| {
        let test = match &one.test {
            HeaderTest::Present(present) => json!({ "present": present }),
            HeaderTest::Value(test) => text(test),
        };
        json!({ "name": one.name.as_str(), "test": test })
    };
    let query =
        |one: &crate::snapshot::QueryMatch| json!({ "name": one.name, "test": text(&one.test) });
    json!({
        "path": path,
        "method": told.method.as_ref().map(text),
        "headers": told.headers.iter().map(header).collect::<Vec<_>>(),
        "query": told.query.iter().map(query).collect::<Vec<_>>(),
    })
}

fn text(test: &TextTest) -> Value {
    match test {
        TextTest::Exact(text) => json!({ "exact": text }),
        TextTest::Regex(regex) => json!({ "regex": regex.as_str() }),
    }
}

fn action(action: &RouteAction) -> Value {
    match action {
        RouteAction::Forward(forward) => {
            let rewrite = forward.rewrite.as_ref().map(|rewrite| match rewrite {
                PathRewrite::Prefix(prefix) => json!({ "prefix": prefix }),
                PathRewrite::Regex(regex, with) => json!({ "regex": regex.as_str(), "with": with }),
            });
            let host = forward.host.as_ref();
            json!({ "forward": {
                "backends": backends(&forward.backends),
                "timeout": forward.timeout.map(seconds),
                "rewrite": rewrite,
                "host": host.map(|host| String::from_utf8_lossy(host.as_bytes())),
                "retry": forward.retry.as_ref().map(retry),
            } })
        }
        RouteAction::Redirect(to) => {
            let path = to.path.as_ref().map(|path| match path {
                RedirectPath::Whole(path) => json!({ "whole": path }),
                RedirectPath::Prefix(path) => json!({ "prefix": path }),
            });
            json!({ "redirect": {
                "status": to.status.as_u16(),
                "scheme": to.scheme,
                "host": to.host,
                "port": to.port,
                "path": path,
            } })
        }
        RouteAction::Respond(answer) => json!({ "respond": { "status": answer.status.as_u16() } }),
    }
}

fn retry(policy: &RetryPolicy) -> Value {
    let on = &policy.on;
    let flags = [
        ("5xx", on.server_error),
        ("gateway-error", on.gateway_error),
        ("connect-failure", on.connect_failure),
        ("reset", on.reset),
        ("refused-stream", on.refused_stream),
        ("retriable-status-codes", on.retriable_status_codes),
        ("cancelled", on.cancelled),
        ("deadline-exceeded", on.deadline_exceeded),
        ("resource-exhausted", on.resource_exhausted),
        ("unavailable", on.unavailable),
        ("internal", on.internal),
    ];
    let on: Vec<_> = flags
        .iter()
        .filter(|flag| flag.1)
        .map(|flag| flag.0)
        .collect();
    json!({
        "on": on,
        "statuses": policy.statuses.iter().map(|status| status.as_u16()).collect::<Vec<_>>(),
        "limit": policy.limit,
        "perTryTimeout": policy.per_try_timeout.map(seconds),
        "backoffBase": seconds(policy.backoff_base),
        "backoffMax": seconds(policy.backoff_max),
    })
}
