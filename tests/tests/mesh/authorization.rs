//! `AuthorizationPolicy` and XFCC: who may call what, and whom the application believes it is called by.

use std::net::SocketAddr;

use anyhow::ensure;
use maille_tests::cluster::TRUST_DOMAIN;
use maille_tests::mesh::{Mesh, NAMESPACE, ask, object};
use maille_tests::sidecar::Kind;
use serde_json::{Value, json};

for_each_kind!(
    policies_allow_and_deny_by_who_and_what,
    the_application_sees_who_called_and_a_forged_header_is_stripped,
);

/// The rules, what they are for, and what each request is answered with.
struct Case {
    name: &'static str,
    policies: Vec<Value>,
    expected: &'static [(&'static str, u16)],
}

fn caller() -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/caller")
}

fn allow(rules: Value) -> Value {
    json!({"selector": {"matchLabels": {"app": "one"}}, "action": "Allow", "rules": rules})
}

fn deny(rules: Value) -> Value {
    json!({"selector": {"matchLabels": {"app": "one"}}, "action": "Deny", "rules": rules})
}

fn cases() -> Vec<Case> {
    let case = |name, policies, expected| Case {
        name,
        policies,
        expected,
    };
    let from = |source: Value| json!([{"from": [source]}]);
    let to = |operation: Value| json!([{"to": [operation]}]);
    let all = json!([{}]);
    vec![
        case("no policy", vec![], &[("GET /", 200)]),
        case(
            "allow an identity",
            vec![allow(from(json!({"identities": [caller()]})))],
            &[("GET /", 200)],
        ),
        case(
            "allow another identity",
            vec![allow(from(
                json!({"identities": [format!("{}x", caller())]}),
            ))],
            &[("GET /", 403)],
        ),
        case(
            "allow identities by prefix",
            vec![allow(from(
                json!({"identities": [format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/*")]}),
            ))],
            &[("GET /", 200)],
        ),
        case(
            "allow other identities by prefix",
            vec![allow(from(
                json!({"identities": [format!("spiffe://{TRUST_DOMAIN}/ns/else/*")]}),
            ))],
            &[("GET /", 403)],
        ),
        case(
            "allow a namespace",
            vec![allow(from(json!({"namespaces": ["else", NAMESPACE]})))],
            &[("GET /", 200)],
        ),
        case(
            "allow another namespace",
            vec![allow(from(json!({"namespaces": ["else"]})))],
            &[("GET /", 403)],
        ),
        case(
            "both of a source",
            vec![allow(from(
                json!({"namespaces": [NAMESPACE], "identities": ["spiffe://mesh.test/ns/shop/sa/other"]}),
            ))],
            &[("GET /", 403)],
        ),
        case(
            "allow a port",
            vec![allow(to(json!({"ports": [80]})))],
            &[("GET /", 200)],
        ),
        case(
            "allow another port",
            vec![allow(to(json!({"ports": [81]})))],
            &[("GET /", 403)],
        ),
        case(
            "allow a method",
            vec![allow(to(json!({"methods": ["GET", "PUT"]})))],
            &[("GET /", 200), ("PUT /", 200), ("POST /", 403)],
        ),
        case(
            "allow paths",
            vec![allow(to(json!({"paths": ["/exact", "/prefix/*"]})))],
            &[
                ("GET /exact", 200),
                ("GET /exact?q=1", 200),
                ("GET /exact/more", 403),
                ("GET /prefix/more", 200),
                ("GET /prefix", 403),
                ("GET /", 403),
            ],
        ),
        case(
            "both of an operation",
            vec![allow(to(json!({"methods": ["GET"], "paths": ["/a"]})))],
            &[("GET /a", 200), ("PUT /a", 403), ("GET /b", 403)],
        ),
        case(
            "source and operation",
            vec![allow(
                json!([{"from": [{"namespaces": [NAMESPACE]}], "to": [{"methods": ["GET"]}]}]),
            )],
            &[("GET /", 200), ("PUT /", 403)],
        ),
        case(
            "any of several rules",
            vec![allow(
                json!([{"to": [{"methods": ["PUT"]}]}, {"to": [{"paths": ["/a"]}, {"paths": ["/b"]}]}]),
            )],
            &[
                ("PUT /", 200),
                ("GET /a", 200),
                ("GET /b", 200),
                ("GET /", 403),
            ],
        ),
        case(
            "any of several policies",
            vec![
                allow(to(json!({"methods": ["PUT"]}))),
                allow(to(json!({"paths": ["/a"]}))),
            ],
            &[("PUT /", 200), ("GET /a", 200), ("GET /", 403)],
        ),
        case("allow nothing", vec![allow(json!([]))], &[("GET /", 403)]),
        case(
            "deny an identity",
            vec![deny(from(json!({"identities": [caller()]})))],
            &[("GET /", 403)],
        ),
        case(
            "deny another identity",
            vec![deny(from(
                json!({"identities": ["spiffe://mesh.test/ns/shop/sa/other"]}),
            ))],
            &[("GET /", 200)],
        ),
        case(
            "deny a path",
            vec![deny(to(json!({"paths": ["/admin/*"]})))],
            &[("GET /admin/x", 403), ("GET /", 200)],
        ),
        case(
            "deny a method",
            vec![deny(to(json!({"methods": ["DELETE"]})))],
            &[("DELETE /", 403), ("GET /", 200)],
        ),
        case(
            "deny before allow",
            vec![allow(all), deny(to(json!({"paths": ["/no"]})))],
            &[("GET /", 200), ("GET /no", 403)],
        ),
        case(
            "of a service's port",
            vec![
                json!({"targetRef": {"name": "guarded", "port": 80}, "action": "Allow", "rules": [{"to": [{"methods": ["GET"]}]}]}),
            ],
            &[("GET /", 200), ("PUT /", 403)],
        ),
        case(
            "of the whole namespace",
            vec![json!({"action": "Deny", "rules": [{"to": [{"methods": ["PUT"]}]}]})],
            &[("GET /", 200), ("PUT /", 403)],
        ),
        case(
            "of other workloads",
            vec![
                json!({"selector": {"matchLabels": {"app": "else"}}, "action": "Allow", "rules": []}),
            ],
            &[("GET /", 200)],
        ),
    ]
}

async fn check(mesh: &Mesh, listen: SocketAddr, case: &Case) -> anyhow::Result<()> {
    let documents: Vec<String> = case
        .policies
        .iter()
        .enumerate()
        .map(|(at, spec)| object("AuthorizationPolicy", &format!("rule-{at}"), spec))
        .collect();
    if !documents.is_empty() {
        mesh.apply(&documents.join("\n---\n")).await?;
    }
    for (line, expected) in case.expected {
        let before = mesh.application("one").requests();
        let answer = ask(listen, line).await?;
        let reached = mesh.application("one").requests() - before;
        ensure!(
            answer.status == *expected,
            "{}: `{line}`: {}, not {expected}",
            case.name,
            answer.status
        );
        ensure!(
            reached == u64::from(*expected == 200),
            "{}: `{line}` reached the application {reached} times",
            case.name
        );
    }
    for at in 0..case.policies.len() {
        mesh.delete("AuthorizationPolicy", &format!("rule-{at}"))
            .await?;
    }
    Ok(())
}

async fn policies_allow_and_deny_by_who_and_what(kinds: [Kind; 2]) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let listen = mesh.service("guarded", "one").await?;
    for case in cases() {
        check(&mesh, listen, &case).await?;
    }
    let metrics = mesh.servers["one"].sidecar.statistics().await?;
    ensure!(
        metrics.contains("denied") || metrics.contains("deny"),
        "the metrics of the server's sidecar say nothing of denials"
    );
    Ok(())
}

async fn the_application_sees_who_called_and_a_forged_header_is_stripped(
    kinds: [Kind; 2],
) -> anyhow::Result<()> {
    let mut mesh = Mesh::of(kinds, "http", &["one"]).await?;
    let listen = mesh.service("named", "one").await?;
    for line in [
        "GET /",
        "GET / x-forwarded-client-cert=URI=spiffe://mesh.test/ns/shop/sa/king",
        "GET / X-Forwarded-Client-Cert=Hash=1 x-forwarded-client-cert=URI=x",
    ] {
        let seen = ask(listen, line)
            .await?
            .seen()?
            .header("x-forwarded-client-cert");
        ensure!(
            seen.contains(&format!("URI={}", caller())),
            "`{line}`: {seen}"
        );
        ensure!(
            !seen.contains("king") && !seen.contains("Hash=1;") && !seen.contains("URI=x"),
            "`{line}`: {seen}"
        );
    }
    Ok(())
}
