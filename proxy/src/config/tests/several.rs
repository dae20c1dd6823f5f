//! Several workloads in one file.

use super::{Config, Hosted, WORKLOAD};

const SEVERAL: &str = "
controllers: [c1:4700]
trustDomain: mesh.local
workloads:
- namespace: shop
  name: web-1
  serviceAccount: web
  users: [root, 2000-2999]
  joinTokenFile: /etc/maille/web.token
  labels: {app: web}
  addresses: [10.0.0.1]
  ports: [{port: 8080, protocol: http, health: {tcp: {}}}]
- namespace: bank
  name: web-1
  users: 1001
  joinToken: maille1.c2VjcmV0
  dataDir: /data/bank
  addresses: [10.0.0.1]
  locality: eu/a
  ports: [{name: http, port: 9090}]
- {namespace: shop, name: cron, addresses: [10.0.0.1]}
listen: {mesh: 10.0.0.1:14743}
workers: 2
";

#[test]
fn several_workloads_come_to_a_whole_configuration_each() {
    let hosted: Hosted = SEVERAL.parse().unwrap();
    let places: Vec<_> = hosted
        .workloads()
        .iter()
        .map(|one| (one.workload.node(), one.data_directory.to_str().unwrap()))
        .collect();
    let node = str::to_owned;
    assert_eq!(
        places,
        [
            (node("shop/web-1"), "/var/lib/maille-proxy/shop.web-1"),
            (node("bank/web-1"), "/data/bank"),
            (node("shop/cron"), "/var/lib/maille-proxy/shop.cron"),
        ]
    );
    for one in hosted.workloads() {
        assert_eq!((one.workers, one.advertise.mesh_port), (2, 14743));
        assert_eq!(one.trust_domain.as_deref(), Some("mesh.local"));
    }
    let shown = hosted.resolved();
    assert!(!shown.contains("c2VjcmV0"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn several_workloads_read_as_themselves() {
    let text = SEVERAL.replace("joinToken: maille1.c2VjcmV0", "joinTokenFile: /t");
    let hosted: Hosted = text.parse().unwrap();
    let again: Hosted = hosted.resolved().parse().unwrap();
    assert_eq!(hosted.resolved(), again.resolved());
    let users = |hosted: &Hosted| hosted.workloads()[0].workload.users.clone();
    assert_eq!(users(&hosted), users(&again));
}

#[test]
fn only_a_sidecar_stands_beside_several() {
    let refused = SEVERAL.parse::<Config>().unwrap_err().to_string();
    assert!(
        refused.starts_with("workloads: only a sidecar"),
        "{refused}"
    );
    let agent = format!("{SEVERAL}agent: {{kind: grpc}}");
    check(
        &agent,
        &["agent: stands beside one workload; take it out, or name one workload"],
    );
}

/// The text must be refused with exactly these lines.
fn check(text: &str, expected: &[&str]) {
    let refused = text.parse::<Hosted>().unwrap_err();
    let lines: Vec<String> = refused.problems.iter().map(ToString::to_string).collect();
    assert_eq!(lines, expected, "for {text}");
}

#[test]
fn a_file_has_one_form_and_each_workload_its_own_token() {
    let one = "{namespace: shop, name: a, addresses: [10.0.0.1]}";
    check(
        &format!("controllers: [c1:4700]\n{WORKLOAD}\nworkloads: [{one}]"),
        &["workloads: cannot stand beside workload; keep one"],
    );
    check(
        "controllers: [c1:4700]\nworkloads: []",
        &["workloads: must name at least one workload"],
    );
    check(
        &format!("joinTokenFile: /t\nworkloads: [{one}]"),
        &[
            "controllers: is missing; a host of several workloads names its controllers itself",
            "joinTokenFile: belongs to each of workloads",
        ],
    );
    check(
        "controllers: [c1:4700]\nworkload: {namespace: shop, name: a, addresses: [10.0.0.1], users: [1]}",
        &[
            "workload.users: unknown field; the fields here are: namespace, name, serviceAccount, labels, addresses, locality, ports",
        ],
    );
    check(
        "controllers: [c1:4700]\nworkloads:\n- {namespace: shop, name: a, addresses: [10.0.0.1], serviceAccount: We.b, users: [5-3, 7, 6-8, '-1']}",
        &[
            "workloads[0].serviceAccount: \"We.b\": must be 1 to 253 of a-z, 0-9, - and ., with no - or . at either end of a part",
            "workloads[0].users[0]: \"5-3\": must be a range from a lower to a higher number",
            "workloads[0].users[3]: \"-1\": no such user in /etc/passwd; give the user's number where it is kept elsewhere",
            "workloads[0].users: 6-8 and 7 overlap",
        ],
    );
}

#[test]
fn what_two_workloads_must_not_share_is_named_with_both() {
    let text = |one: &str, two: &str| {
        format!(
            "controllers: [c1:4700]\nworkloads:\n- {{namespace: shop, name: a, addresses: [10.0.0.1], {one}}}\n- {{namespace: shop, name: b, addresses: [10.0.0.1], {two}}}"
        )
    };
    for (one, two, expected) in [
        (
            "ports: [{port: 80}]",
            "ports: [{port: 81}, {port: 80, application: '127.0.0.1:9000'}]",
            "shop/a and shop/b both have port 80; give one of them another port, with application where it listens",
        ),
        (
            "ports: [{port: 80, application: '127.0.0.1:8080'}]",
            "ports: [{port: 8080}]",
            "port 80 of shop/a and port 8080 of shop/b are the same application, 127.0.0.1:8080; an application belongs to one workload",
        ),
        (
            "users: [1, 10-20]",
            "users: [15-30]",
            "shop/a and shop/b both name the users 15-20; a user's connections belong to one workload",
        ),
        (
            "dataDir: /d",
            "dataDir: /d",
            "shop/a and shop/b have the same dataDir /d; give each its own",
        ),
        ("users: [1]", "name: a", "shop/a stands twice"),
    ] {
        let text = match two {
            "name: a" => text(one, "locality: x").replace("name: b", "name: a"),
            _ => text(one, two),
        };
        check(&text, &[&format!("workloads: {expected}")]);
    }
    let own = text(
        "ports: [{port: 80, application: '0.0.0.0:4743'}]",
        "users: [1]",
    );
    let text = format!("{own}\nlisten: {{mesh: '0.0.0.0:4743'}}");
    check(
        &text,
        &["workloads[0].ports: application 0.0.0.0:4743 is the proxy itself"],
    );
}
