//! Authorization as a table: port, peer and request in, verdict out.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::snapshot::{Pattern, Protocol};

fn rule(action: Action, policy: &str) -> Rule {
    Rule {
        action,
        policy: policy.into(),
        identities: Vec::new(),
        namespaces: Vec::new(),
        methods: Vec::new(),
        paths: Vec::new(),
    }
}

fn port(mtls: Mtls, rules: Vec<Rule>) -> InboundPort {
    InboundPort {
        protocol: Protocol::Detect,
        mtls,
        rules,
        default_deny: false,
    }
}

fn peer(namespace: &str, account: &str) -> Option<PeerIdentity> {
    Some(PeerIdentity {
        id: format!("spiffe://mesh.test/ns/{namespace}/sa/{account}").into(),
        namespace: namespace.into(),
        trust_domain: "mesh.test".into(),
    })
}

fn get(path: &str) -> Option<RequestFacts<'_>> {
    Some(RequestFacts {
        method: "GET",
        path,
    })
}

#[track_caller]
fn check(
    port: &InboundPort,
    peer: Option<PeerIdentity>,
    request: Option<RequestFacts<'_>>,
    expected: Verdict<'_>,
) {
    assert_eq!(judge(port, peer.as_ref(), request), expected);
}

#[test]
fn without_rules_only_strictness_refuses() {
    let open = port(Mtls::Permissive, vec![]);
    check(&open, None, None, Verdict::Allow(None));
    check(&open, peer("a", "b"), get("/"), Verdict::Allow(None));
    let strict = port(Mtls::Strict, vec![]);
    check(&strict, None, get("/"), Verdict::Deny(Denial::Plaintext));
    check(&strict, peer("a", "b"), None, Verdict::Allow(None));
}

#[test]
fn an_allow_policy_without_rules_allows_nobody() {
    let mut closed = port(Mtls::Permissive, vec![]);
    closed.default_deny = true;
    check(
        &closed,
        peer("a", "b"),
        get("/"),
        Verdict::Deny(Denial::NotAllowed),
    );
}

#[test]
fn a_denial_wins_whatever_its_place() {
    let mut deny = rule(Action::Deny, "demo/deny");
    deny.identities = vec![Pattern::new("spiffe://mesh.test/ns/demo/sa/bad")];
    let both = port(
        Mtls::Permissive,
        vec![rule(Action::Allow, "demo/all"), deny],
    );
    check(
        &both,
        peer("demo", "bad"),
        get("/"),
        Verdict::Deny(Denial::Denied("demo/deny")),
    );
    check(
        &both,
        peer("demo", "good"),
        get("/"),
        Verdict::Allow(Some("demo/all")),
    );
}

#[test]
fn plaintext_matches_no_identity_and_no_namespace() {
    let mut by_id = rule(Action::Allow, "demo/id");
    by_id.identities = vec![Pattern::new("*")];
    let mut by_namespace = rule(Action::Allow, "demo/ns");
    by_namespace.namespaces = vec!["demo".into()];
    let port = port(Mtls::Permissive, vec![by_id, by_namespace]);
    check(&port, None, get("/"), Verdict::Deny(Denial::NotAllowed));
    check(
        &port,
        peer("x", "y"),
        get("/"),
        Verdict::Allow(Some("demo/id")),
    );
}

#[test]
fn methods_and_paths_bind_requests_and_are_cautious_about_opaque_bytes() {
    let mut allow = rule(Action::Allow, "demo/read");
    allow.methods = vec!["GET".into()];
    allow.paths = vec![Pattern::new("/public/*")];
    let reading = port(Mtls::Permissive, vec![allow]);
    check(
        &reading,
        None,
        get("/public/a"),
        Verdict::Allow(Some("demo/read")),
    );
    check(
        &reading,
        None,
        get("/private"),
        Verdict::Deny(Denial::NotAllowed),
    );
    check(&reading, None, None, Verdict::Deny(Denial::NotAllowed));

    let mut deny = rule(Action::Deny, "demo/admin");
    deny.paths = vec![Pattern::new("/admin")];
    let guarded = port(Mtls::Permissive, vec![deny]);
    check(
        &guarded,
        None,
        get("/admin"),
        Verdict::Deny(Denial::Denied("demo/admin")),
    );
    check(&guarded, None, get("/"), Verdict::Allow(None));
    check(
        &guarded,
        None,
        None,
        Verdict::Deny(Denial::Denied("demo/admin")),
    );
}

#[test]
fn the_lists_of_one_rule_must_all_match() {
    let mut both = rule(Action::Allow, "demo/both");
    both.identities = vec![Pattern::new("spiffe://mesh.test/ns/*")];
    both.namespaces = vec!["demo".into()];
    let port = port(Mtls::Strict, vec![both]);
    check(
        &port,
        peer("demo", "x"),
        None,
        Verdict::Allow(Some("demo/both")),
    );
    check(
        &port,
        peer("other", "x"),
        None,
        Verdict::Deny(Denial::NotAllowed),
    );
}
