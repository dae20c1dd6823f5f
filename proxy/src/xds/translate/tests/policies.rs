//! `in/…`: mutual TLS, authorization and what the application's ports are.

use super::*;

fn policy(change: impl FnOnce(&mut v1::Inbound)) -> Listener {
    let mut inbound = v1::Inbound {
        namespace: "shop".into(),
        workload: "web-1".into(),
        identity: "spiffe://mesh.test/ns/shop/sa/web".into(),
        default_mtls: v1::Mtls::Permissive.into(),
        ports: vec![v1::InboundPort {
            port: 80,
            protocol: v1::Protocol::Http1.into(),
            mtls: v1::Mtls::Strict.into(),
            rules: vec![rule()],
            default_deny: true,
        }],
        upstreams: vec![v1::Upstream {
            listen: "[::1]:9001".into(),
            namespace: "shop".into(),
            service: "api".into(),
            port: 80,
        }],
        ..Default::default()
    };
    change(&mut inbound);
    Listener {
        name: "in/shop/web-1".into(),
        metadata: metadata(&inbound),
        ..Default::default()
    }
}

fn rule() -> v1::AuthorizationRule {
    v1::AuthorizationRule {
        action: v1::authorization_rule::Action::Deny.into(),
        policy: "shop/no".into(),
        identities: vec!["spiffe://mesh.test/*".into()],
        namespaces: vec!["bank".into()],
        methods: vec!["PUT".into()],
        paths: vec!["/a".into(), "/b/*".into()],
    }
}

#[test]
fn every_field_arrives() {
    let Value::Inbound(found) = read("in/shop/web-1", &policy(|_| {})).unwrap() else {
        panic!("no policy");
    };
    let port = found.port(80);
    assert_eq!(
        (port.protocol, port.mtls, port.default_deny),
        (Protocol::Http1, Mtls::Strict, true)
    );
    let rule = &port.rules[0];
    assert_eq!((rule.action, &*rule.policy), (Action::Deny, "shop/no"));
    assert_eq!(
        rule.identities,
        [Pattern::Prefix("spiffe://mesh.test/".into())]
    );
    assert_eq!(
        rule.paths,
        [Pattern::Exact("/a".into()), Pattern::Prefix("/b/".into())]
    );
    assert_eq!((&*rule.methods[0], &*rule.namespaces[0]), ("PUT", "bank"));
    let other = found.port(81);
    assert_eq!(
        (other.protocol, other.mtls),
        (Protocol::Detect, Mtls::Permissive)
    );
    assert_eq!(&*found.upstreams[0].target, "out/api.shop:80");
    assert_eq!(found.upstreams[0].listen.to_string(), "[::1]:9001");
}

#[test]
fn what_is_not_understood_is_refused() {
    let check = |change: fn(&mut v1::Inbound), expected: &str| {
        refuse("in/shop/web-1", &policy(change), expected);
    };
    check(|one| one.default_mtls = 0, "default_mtls: is not set");
    check(|one| one.ports[0].mtls = 7, "ports[0].mtls: 7 is not known");
    check(
        |one| one.ports[0].port = 70_000,
        "ports[0].port: 70000 is no port",
    );
    check(
        |one| one.ports.push(one.ports[0].clone()),
        "ports: 80 stands twice",
    );
    check(
        |one| one.ports[0].rules[0].action = 0,
        "ports[0].rules[0].action: is not set",
    );
    check(
        |one| one.ports[0].rules[0].paths = vec!["/*/x".into()],
        "ports[0].rules[0].paths[0]: \"/*/x\" has a * elsewhere than at its end",
    );
    check(|one| one.identity.clear(), "identity: is empty");
    check(
        |one| one.workload = "web-2".into(),
        "namespace and workload: \"in/shop/web-2\" differs from the resource's name \"in/shop/web-1\"",
    );
    check(
        |one| one.upstreams[0].listen = "9001".into(),
        "upstreams[0].listen: \"9001\" is no ip:port",
    );
}
