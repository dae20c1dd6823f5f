//! `HTTPRoute`, filters: what is changed on the way there and back, as the application and the client saw it.

use anyhow::ensure;
use maille_tests::client::Answer;
use maille_tests::mesh::{Mesh, answers, ask, route};
use maille_tests::sidecar::Kind;
use serde_json::{Value, json};

for_each_kind!(filters_change_what_the_application_and_the_client_see,);

/// A rule, a request, and what must be seen: `<whose>.<what>` and its value. `seen.` is a field of what the application saw, `sent.` a header that it saw,
/// `got.` a header of the answer; `status` is the answer's.
struct Case {
    name: &'static str,
    rule: Value,
    request: &'static str,
    expected: &'static [(&'static str, &'static str)],
}

fn filters(filters: Value) -> Value {
    json!({"filters": filters, "backendRefs": [{"name": "plain", "port": 80}]})
}

fn request_headers(change: Value) -> Value {
    json!({"type": "RequestHeaderModifier", "requestHeaderModifier": change})
}

fn response_headers(change: Value) -> Value {
    json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": change})
}

fn redirect(prefix: &str, change: Value) -> Value {
    json!({"matches": [{"path": {"value": prefix}}], "filters": [{"type": "RequestRedirect", "requestRedirect": change}]})
}

fn rewrite(prefix: &str, change: Value) -> Value {
    let filters = json!([{"type": "URLRewrite", "urlRewrite": change}]);
    json!({"matches": [{"path": {"value": prefix}}], "filters": filters, "backendRefs": [{"name": "plain", "port": 80}]})
}

fn header_cases() -> Vec<Case> {
    let header = |name: &str, value: &str| json!({"name": name, "value": value});
    vec![
        Case {
            name: "request-set",
            rule: filters(json!([request_headers(
                json!({"set": [header("x-a", "new"), header("x-b", "made")]})
            )])),
            request: "GET / x-a=old x-a=older x-c=kept",
            expected: &[
                ("sent.x-a", "new"),
                ("sent.x-b", "made"),
                ("sent.x-c", "kept"),
            ],
        },
        Case {
            name: "request-add",
            rule: filters(json!([request_headers(
                json!({"add": [header("x-a", "new"), header("x-b", "made")]})
            )])),
            request: "GET / x-a=old",
            expected: &[("sent.x-a", "old,new"), ("sent.x-b", "made")],
        },
        Case {
            name: "request-remove",
            rule: filters(json!([request_headers(json!({"remove": ["X-A", "x-b"]}))])),
            request: "GET / x-a=1 x-a=2 x-c=kept",
            expected: &[("sent.x-a", ""), ("sent.x-b", ""), ("sent.x-c", "kept")],
        },
        Case {
            name: "request-all",
            rule: filters(json!([request_headers(
                json!({"set": [header("x-a", "1")], "add": [header("x-b", "2")], "remove": ["x-c"]})
            )])),
            request: "GET / x-a=0 x-b=1 x-c=3",
            expected: &[("sent.x-a", "1"), ("sent.x-b", "1,2"), ("sent.x-c", "")],
        },
        Case {
            name: "response-set",
            rule: filters(json!([response_headers(
                json!({"set": [header("x-a", "new"), header("x-b", "made")]})
            )])),
            request: "GET / x-reply-header=x-a=old x-reply-header=x-c=kept",
            expected: &[("got.x-a", "new"), ("got.x-b", "made"), ("got.x-c", "kept")],
        },
        Case {
            name: "response-add",
            rule: filters(json!([response_headers(
                json!({"add": [header("x-a", "new")]})
            )])),
            request: "GET / x-reply-header=x-a=old",
            expected: &[("got.x-a", "old,new")],
        },
        Case {
            name: "response-remove",
            rule: filters(json!([response_headers(json!({"remove": ["X-A"]}))])),
            request: "GET / x-reply-header=x-a=1 x-reply-header=x-b=2",
            expected: &[("got.x-a", ""), ("got.x-b", "2")],
        },
        Case {
            name: "of-a-backend",
            rule: json!({"backendRefs": [{"name": "plain", "port": 80, "filters": [
                request_headers(json!({"set": [header("x-a", "backend")]})),
                response_headers(json!({"set": [header("x-b", "backend")]})),
            ]}]}),
            request: "GET / x-a=old",
            expected: &[("sent.x-a", "backend"), ("got.x-b", "backend")],
        },
    ]
}

fn redirect_cases() -> Vec<Case> {
    let full = json!({"type": "ReplaceFullPath", "replaceFullPath": "/new"});
    let prefix = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"});
    vec![
        Case {
            name: "redirect-scheme",
            rule: redirect("/", json!({"scheme": "https"})),
            request: "GET /a?b=c host=shop.test",
            expected: &[
                ("status", "302"),
                ("got.location", "https://shop.test/a?b=c"),
            ],
        },
        Case {
            name: "redirect-host",
            rule: redirect("/", json!({"hostname": "other.test", "statusCode": 301})),
            request: "GET /a host=shop.test",
            expected: &[("status", "301"), ("got.location", "http://other.test/a")],
        },
        Case {
            name: "redirect-port",
            rule: redirect(
                "/",
                json!({"scheme": "https", "port": 8443, "statusCode": 307}),
            ),
            request: "GET /a host=shop.test",
            expected: &[
                ("status", "307"),
                ("got.location", "https://shop.test:8443/a"),
            ],
        },
        Case {
            name: "redirect-full-path",
            rule: redirect(
                "/a",
                json!({"hostname": "other.test", "path": full, "statusCode": 308}),
            ),
            request: "GET /a/b?c=d host=shop.test",
            expected: &[
                ("status", "308"),
                ("got.location", "http://other.test/new?c=d"),
            ],
        },
        Case {
            name: "redirect-prefix",
            rule: redirect(
                "/a",
                json!({"hostname": "other.test", "path": prefix, "statusCode": 303}),
            ),
            request: "GET /a/b?c=d host=shop.test",
            expected: &[
                ("status", "303"),
                ("got.location", "http://other.test/new/b?c=d"),
            ],
        },
    ]
}

fn rewrite_cases() -> Vec<Case> {
    let prefix =
        |to: &str| json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": to}});
    vec![
        Case {
            name: "rewrite-host",
            rule: rewrite("/", json!({"hostname": "inner.test"})),
            request: "GET /a host=shop.test",
            expected: &[("sent.host", "inner.test"), ("seen.path", "/a")],
        },
        Case {
            name: "rewrite-full-path",
            rule: rewrite(
                "/a",
                json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x/y"}}),
            ),
            request: "GET /a/b?c=d",
            expected: &[("seen.path", "/x/y?c=d")],
        },
        Case {
            name: "rewrite-prefix",
            rule: rewrite("/a", prefix("/x")),
            request: "GET /a/b?c=d",
            expected: &[("seen.path", "/x/b?c=d")],
        },
        Case {
            name: "rewrite-prefix-whole",
            rule: rewrite("/a", prefix("/x")),
            request: "GET /a?c=d",
            expected: &[("seen.path", "/x?c=d")],
        },
        Case {
            name: "rewrite-prefix-to-root",
            rule: rewrite("/a", prefix("/")),
            request: "GET /a/b",
            expected: &[("seen.path", "/b")],
        },
        Case {
            name: "rewrite-prefix-from-root",
            rule: rewrite("/", prefix("/x")),
            request: "GET /b",
            expected: &[("seen.path", "/x/b")],
        },
        Case {
            name: "no-filter",
            rule: filters(json!([])),
            request: "GET /a/b?c=d x-a=1",
            expected: &[("seen.path", "/a/b?c=d"), ("sent.x-a", "1")],
        },
    ]
}

fn observe(answer: &Answer, what: &str) -> anyhow::Result<String> {
    match what.split_once('.') {
        None => Ok(answer.status.to_string()),
        Some(("got", header)) => Ok(answer.header(header)),
        Some(("sent", header)) => Ok(answer.seen()?.header(header)),
        Some((_, field)) => Ok(answer.seen()?.field(field)),
    }
}

async fn filters_change_what_the_application_and_the_client_see(
    kinds: [Kind; 2],
) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let cases: Vec<Case> = header_cases()
        .into_iter()
        .chain(redirect_cases())
        .chain(rewrite_cases())
        .collect();
    let services: Vec<(&str, &str)> = cases
        .iter()
        .map(|case| (case.name, "one"))
        .chain([("plain", "one")])
        .collect();
    let listeners = mesh.services("http", &services).await?;
    for listen in &listeners {
        answers(*listen).await?;
    }
    let routes: Vec<String> = cases
        .iter()
        .map(|case| route(case.name, &json!([case.rule])))
        .collect();
    mesh.apply(&routes.join("\n---\n")).await?;
    let mut wrong = Vec::new();
    for (case, listen) in cases.iter().zip(&listeners) {
        let answer = ask(*listen, case.request).await?;
        for (what, expected) in case.expected {
            let found = observe(&answer, what).unwrap_or_else(|error| format!("{error:#}"));
            if found != *expected {
                wrong.push(format!(
                    "{}: `{}`: {what} is `{found}`, not `{expected}`",
                    case.name, case.request
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
