//! `HTTPRoute`, matches: which requests a rule takes, as the applications saw it.

use anyhow::ensure;
use maille_tests::mesh::{Mesh, answers, ask, route};
use maille_tests::sidecar::Kind;
use serde_json::{Value, json};

for_each_kind!(
    a_rule_takes_what_its_matches_say,
    precedence_is_by_how_exact_a_match_is,
);

/// What the rule says, the requests that it takes, and those that it leaves to the next rule.
struct Case {
    name: &'static str,
    matches: Value,
    taken: &'static [&'static str],
    left: &'static [&'static str],
}

fn cases() -> Vec<Case> {
    let path = |kind: &str, value: &str| json!([{"path": {"type": kind, "value": value}}]);
    vec![
        Case {
            name: "path-exact",
            matches: path("Exact", "/a"),
            taken: &["GET /a", "POST /a?x=1"],
            left: &["GET /a/", "GET /a/b", "GET /A", "GET /ab", "GET /"],
        },
        Case {
            name: "path-prefix",
            matches: path("PathPrefix", "/a"),
            taken: &["GET /a", "GET /a/", "GET /a/b?x=1", "GET /a?x"],
            left: &["GET /ab", "GET /b/a", "GET /A", "GET /"],
        },
        Case {
            name: "path-prefix-slash",
            matches: path("PathPrefix", "/a/"),
            taken: &["GET /a", "GET /a/", "GET /a/b"],
            left: &["GET /ab"],
        },
        Case {
            name: "path-prefix-default",
            matches: json!([{"path": {"value": "/a"}}]),
            taken: &["GET /a/b"],
            left: &["GET /ab"],
        },
        Case {
            name: "path-regex",
            matches: path("RegularExpression", "/[0-9]+/x"),
            taken: &["GET /12/x", "GET /1/x?y=z"],
            left: &["GET /12/xy", "GET /z/12/x", "GET //x"],
        },
        Case {
            name: "method",
            matches: json!([{"method": "PUT"}]),
            taken: &["PUT /", "PUT /any/where"],
            left: &["GET /", "POST /"],
        },
        Case {
            name: "header-exact",
            matches: json!([{"headers": [{"name": "X-Color", "value": "Red"}]}]),
            taken: &["GET / x-color=Red", "GET / X-COLOR=Red"],
            left: &[
                "GET / x-color=red",
                "GET / x-color=Redder",
                "GET /",
                "GET / x-colour=Red",
            ],
        },
        Case {
            name: "header-regex",
            matches: json!([{"headers": [{"type": "RegularExpression", "name": "x-color", "value": "r.d"}]}]),
            taken: &["GET / x-color=red", "GET / x-color=rod"],
            left: &["GET / x-color=redder", "GET / x-color=bred", "GET /"],
        },
        Case {
            name: "query-exact",
            matches: json!([{"queryParams": [{"name": "q", "value": "1"}]}]),
            taken: &["GET /?q=1", "GET /path?a=b&q=1", "GET /?q=1&q=2"],
            left: &["GET /?Q=1", "GET /?q=11", "GET /?aq=1", "GET /", "GET /q=1"],
        },
        Case {
            name: "query-regex",
            matches: json!([{"queryParams": [{"type": "RegularExpression", "name": "q", "value": "[0-9]+"}]}]),
            taken: &["GET /?q=17"],
            left: &["GET /?q=17a", "GET /?q=", "GET /?q"],
        },
        Case {
            name: "all-of-one",
            matches: json!([{
                "path": {"value": "/a"}, "method": "GET",
                "headers": [{"name": "x-one", "value": "1"}, {"name": "x-two", "value": "2"}],
                "queryParams": [{"name": "q", "value": "1"}],
            }]),
            taken: &["GET /a?q=1 x-one=1 x-two=2"],
            left: &[
                "GET /b?q=1 x-one=1 x-two=2",
                "PUT /a?q=1 x-one=1 x-two=2",
                "GET /a?q=1 x-one=1",
                "GET /a?q=1 x-one=1 x-two=1",
                "GET /a x-one=1 x-two=2",
            ],
        },
        Case {
            name: "any-of-several",
            matches: json!([{"path": {"value": "/a"}}, {"method": "PUT"}, {"headers": [{"name": "x-one", "value": "1"}]}]),
            taken: &["GET /a", "PUT /b", "GET /b x-one=1"],
            left: &["GET /b", "GET /b x-one=2"],
        },
        Case {
            name: "everything",
            matches: json!([]),
            taken: &["GET /", "DELETE /x?y"],
            left: &[],
        },
    ]
}

async fn a_rule_takes_what_its_matches_say(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["yes", "no"]).await?;
    let cases = cases();
    let services: Vec<(&str, &str)> = cases
        .iter()
        .map(|case| (case.name, "no"))
        .chain([("yes", "yes"), ("no", "no")])
        .collect();
    let listeners = mesh.services("http", &services).await?;
    for listen in &listeners {
        answers(*listen).await?;
    }
    let routes: Vec<String> = cases
        .iter()
        .map(|case| {
            let taken = json!({"matches": case.matches, "backendRefs": [{"name": "yes", "port": 80}]});
            route(case.name, &json!([taken, {"matches": [{"path": {"value": "/"}}], "backendRefs": [{"name": "no", "port": 80}]}]))
        })
        .collect();
    mesh.apply(&routes.join("\n---\n")).await?;
    let mut wrong = Vec::new();
    for (case, listen) in cases.iter().zip(&listeners) {
        let expected = case
            .taken
            .iter()
            .map(|line| (line, "yes"))
            .chain(case.left.iter().map(|line| (line, "no")));
        for (line, server) in expected {
            let seen = ask(*listen, line).await?.seen()?.field("server");
            if seen != server {
                wrong.push(format!("{}: `{line}` went to `{seen}`", case.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Rules by Gateway API's precedence, whatever their order in the route: which one each request meets is seen by a header that it sets.
async fn precedence_is_by_how_exact_a_match_is(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let listen = mesh.service("precedence", "one").await?;
    let only = mesh.service("only", "one").await?;
    let rule = |name: &str, matches: Value| {
        let set = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-rule", "value": name}]}}]);
        json!({"matches": [matches], "filters": set, "backendRefs": [{"name": "precedence", "port": 80}]})
    };
    let rules = json!([
        rule(
            "query",
            json!({"path": {"value": "/a"}, "queryParams": [{"name": "q", "value": "1"}]})
        ),
        rule("prefix", json!({"path": {"value": "/a"}})),
        rule(
            "two-headers",
            json!({"path": {"value": "/a"}, "headers": [{"name": "x-one", "value": "1"}, {"name": "x-two", "value": "2"}]})
        ),
        rule(
            "header",
            json!({"path": {"value": "/a"}, "headers": [{"name": "x-one", "value": "1"}]})
        ),
        rule("method", json!({"path": {"value": "/a"}, "method": "PUT"})),
        rule("long-prefix", json!({"path": {"value": "/a/b"}})),
        rule("exact", json!({"path": {"type": "Exact", "value": "/a/b"}})),
        rule("first-of-equals", json!({"path": {"value": "/z"}})),
        rule("second-of-equals", json!({"path": {"value": "/z"}})),
    ]);
    mesh.apply(&route("precedence", &rules)).await?;
    mesh.apply(&route(
        "only",
        &json!([rule("a", json!({"path": {"value": "/a"}}))]),
    ))
    .await?;
    for (line, expected) in [
        ("PUT /a/b x-one=1", "exact"),
        ("PUT /a/b/c x-one=1", "long-prefix"),
        ("PUT /a/c x-one=1 x-two=2", "method"),
        ("GET /a/c?q=1 x-one=1 x-two=2", "two-headers"),
        ("GET /a/c?q=1 x-one=1", "header"),
        ("GET /a/c?q=1", "query"),
        ("GET /a", "prefix"),
        ("GET /z", "first-of-equals"),
    ] {
        let seen = ask(listen, line).await?.seen()?.header("x-rule");
        ensure!(seen == expected, "`{line}` met `{seen}`, not `{expected}`");
    }
    // What no rule takes is not found; it reaches no application.
    let before = mesh.application("one").requests();
    for (listen, line) in [(listen, "GET /nowhere"), (only, "GET /b")] {
        let answer = ask(listen, line).await?;
        ensure!(
            answer.status == 404,
            "`{line}` was answered with {} {}",
            answer.status,
            answer.body
        );
    }
    ensure!(mesh.application("one").requests() == before);
    Ok(())
}
