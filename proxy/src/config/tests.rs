//! What the configuration accepts, what it says about the rest, and what it prints.
#![allow(clippy::unwrap_used)]

use super::{Config, Hosted};

mod several;

const WORKLOAD: &str = "workload: {namespace: shop, name: web-1, addresses: [10.0.0.1]}";

fn full() -> &'static str {
    "
controllers: [c1:4700, '[fd00::1]:4700']
joinTokenFile: /etc/maille/token
dataDir: /data
trustDomain: mesh.local
workload:
  namespace: shop
  name: web-1
  labels: {app: web, version: '1'}
  addresses: [10.0.0.1, 'fd00::5']
  locality: eu/a
  ports:
  - {name: http, port: 8080, protocol: http, application: '127.0.0.1:9090', health: {http: {path: /up}, interval: 2s, timeout: 500ms, healthyAfter: 2, unhealthyAfter: 4}}
  - {port: 5432, protocol: tcp, health: {tcp: {}}}
  - {port: 9000, protocol: grpc, health: {grpc: {service: shop.Orders}}}
  - {port: 9001, health: {exec: {command: [/usr/bin/pg_isready, -q]}}}
listen:
  outbound: []
  mesh: 10.0.0.1:14743
  dns: ['127.0.0.1:14753']
  admin: 127.0.0.1:14790
  metrics: ['0.0.0.0:14791']
advertise: {meshPort: 24743}
egress: deny
resolvers: [10.0.0.2, '10.0.0.3:5353']
workers: 2
drainTimeout: 1m
drainDelay: 200ms
log: info,maille_proxy::xds=debug
logFormat: json
agent: {socket: '@shop-web', kind: grpc, files: /run/maille/files}
"
}

#[test]
fn the_resolved_value_shows_every_default() {
    let config: Config = format!("controllers: [c1:4700]\n{WORKLOAD}")
        .parse()
        .unwrap();
    insta::assert_snapshot!(config.resolved());
}

#[test]
fn the_resolved_value_shows_every_setting() {
    let config: Config = full().parse().unwrap();
    insta::assert_snapshot!(config.resolved());
}

#[test]
fn the_resolved_value_reads_as_itself() {
    let config: Config = full().parse().unwrap();
    let again: Config = config.resolved().parse().unwrap();
    assert_eq!(config.resolved(), again.resolved());
    assert_eq!(config.workload, again.workload);
}

#[test]
fn the_join_token_is_never_printed() {
    let text = format!("joinToken: maille1.c2VjcmV0\n{WORKLOAD}");
    let config: Config = text.parse().unwrap();
    assert!(!config.resolved().contains("c2VjcmV0"));
    assert!(!format!("{config:?}").contains("c2VjcmV0"));
}

/// The text must be refused with exactly these lines.
fn check(text: &str, expected: &[&str]) {
    let refused = text.parse::<Config>().unwrap_err();
    let lines: Vec<String> = refused.problems.iter().map(ToString::to_string).collect();
    assert_eq!(lines, expected, "for {text}");
}

#[test]
fn every_mistake_is_reported_at_once() {
    check(
        "
controllers: [nowhere, 'fd00::1:4700']
joinToken: a
joinTokenFile: b
workload: {namespace: Shop, name: 7, adresses: [x]}
listen: {admin: '0.0.0.0:4790', metrics: ['127.0.0.1:4740']}
workers: 0
drainTimeout: fast
colour: red
",
        &[
            "controllers[0]: \"nowhere\": must be host:port, a v6 address in brackets",
            "controllers[1]: \"fd00::1:4700\": must be host:port, a v6 address in brackets",
            "joinToken: cannot stand beside joinTokenFile; keep one",
            "workload.addresses: is missing",
            "workload.namespace: \"Shop\": must be 1 to 63 of a-z, 0-9 and -, with no - at either end",
            "workload.name: must be text, not a number; put it in quotes",
            "workload.adresses: unknown field; the fields here are: namespace, name, serviceAccount, labels, addresses, locality, ports",
            "listen.admin: 0.0.0.0:4790: must be a loopback address",
            "listen.metrics: 127.0.0.1:4740 is taken by listen.outbound",
            "workers: 0: must be a whole number from 1 to 64",
            "drainTimeout: \"fast\": must be a duration such as 500ms, 5s, 2m or 1h",
            "colour: unknown field; the fields here are: controllers, joinToken, joinTokenFile, dataDir, trustDomain, workload, workloads, listen, advertise, egress, virtualRanges, resolvers, workers, drainTimeout, drainDelay, log, logFormat, agent",
        ],
    );
}

#[test]
fn relations_between_fields_are_checked() {
    let text = "
workload:
  namespace: shop
  name: web-1
  addresses: []
  ports:
  - {name: a, port: 80, application: '127.0.0.1:4743', health: {http: {path: up}, tcp: {}}}
  - {name: a, port: 80}
  - {name: b}
listen: {mesh: ['127.0.0.1:4743']}
";
    check(
        text,
        &[
            "controllers: is missing; name controllers, or give a joinToken that does",
            "workload.addresses: must name at least one address",
            "workload.ports[0].health.http: cannot stand beside tcp; keep one",
            "workload.ports[0].health.http.path: \"up\": must begin with / and be plain ASCII",
            "workload.ports[2].port: is missing",
            "workload.ports: port 80 stands twice",
            "workload.ports: name \"a\" stands twice",
            "workload.ports: application 127.0.0.1:4743 is the proxy itself",
        ],
    );
    let no_mesh = "
controllers: [c1:4700]
workload: {namespace: shop, name: web-1, addresses: [10.0.0.1], ports: [{port: 80}]}
listen: {mesh: []}
";
    check(
        no_mesh,
        &["listen.mesh: must not be empty while workload.ports names ports to serve"],
    );
}

#[test]
fn a_health_check_has_one_form_and_says_what_is_wrong_with_it() {
    let text = |health: &str| {
        format!(
            "controllers: [c1:4700]\nworkload: {{namespace: shop, name: web-1, addresses: [10.0.0.1], ports: [{{port: 80, health: {health}}}]}}"
        )
    };
    let at = "workload.ports[0].health";
    check(
        &text("{grpc: {service: 'a b', name: x}, exec: {command: [bin/up]}, tcp: {}}"),
        &[
            &format!("{at}.grpc: cannot stand beside exec and tcp; keep one"),
            &format!("{at}.grpc.service: \"a b\": must be plain ASCII of at most 256 bytes"),
            &format!("{at}.grpc.name: unknown field; the fields here are: service"),
            &format!(
                "{at}.exec.command: \"bin/up\": must be an absolute path, or a name that is looked for in PATH"
            ),
        ],
    );
    for (command, expected) in [
        ("{}", "must name a program, and then its arguments"),
        (
            "{command: []}",
            "must name a program, and then its arguments",
        ),
        (
            "{command: curl -f http://127.0.0.1/}",
            "\"curl -f http://127.0.0.1/\": must be a list of words; there is no shell that takes it apart",
        ),
        ("{command: [echo, \"a\\0\"]}", "must not hold a zero byte"),
    ] {
        let expected = format!("{at}.exec.command: {expected}");
        let health = format!("{{exec: {command}}}");
        let refused = text(&health).parse::<Config>().unwrap_err().to_string();
        assert!(refused.contains(&expected), "{command} gave {refused}");
    }
    let config: Config = text("{grpc: {}}").parse().unwrap();
    let health = config.workload.ports[0].health.as_ref().unwrap();
    let service = String::new();
    assert_eq!(health.probe, super::Probe::Grpc { service });
}

#[test]
fn an_agent_for_grpc_keeps_files_and_one_for_envoy_does_not() {
    let text =
        |agent: &str| format!("controllers: [c1:4700]\ndataDir: /data\n{WORKLOAD}\nagent: {agent}");
    let grpc: Config = text("{kind: grpc}").parse().unwrap();
    assert_eq!(
        grpc.agent.files.unwrap().to_str(),
        Some("/data/certificates")
    );
    let envoy: Config = text("{}").parse().unwrap();
    assert_eq!(envoy.agent.abstract_socket(), None);
    assert_eq!(envoy.agent.socket.to_str(), Some("/data/agent.sock"));
    assert_eq!(envoy.agent.files, None);
    check(
        &text("{socket: '@name'}"),
        &["agent.socket: @name: an abstract socket belongs to kind grpc; name a path"],
    );
    check(
        &text("{kind: nginx, files: /f, sockets: /s}"),
        &[
            "agent.kind: \"nginx\": must be envoy or grpc",
            "agent.files: belongs to kind grpc; Envoy takes its certificate from the socket",
            "agent.sockets: unknown field; the fields here are: kind, socket, files",
        ],
    );
    let long = format!("/{}", "s".repeat(107));
    check(
        &text(&format!("{{socket: {long}}}")),
        &[&format!(
            "agent.socket: {long}: has 108 bytes, a socket's path at most 107"
        )],
    );
}

#[test]
fn a_grpc_programs_agent_has_an_abstract_socket_of_its_own() {
    let name = |directory: &str, workload: &str| -> String {
        let text = format!(
            "controllers: [c1:4700]\ndataDir: {directory}\nagent: {{kind: grpc}}\nworkload: {{namespace: shop, name: {workload}, addresses: [10.0.0.1]}}"
        );
        let config: Config = text.parse().unwrap();
        config.agent.abstract_socket().unwrap().to_owned()
    };
    insta::assert_snapshot!(name("/data", "web-1"));
    assert_ne!(name("/data", "web-1"), name("/other", "web-1"));
    let (long, other) = ("w".repeat(63), format!("{}v", "w".repeat(62)));
    assert_ne!(name("/data", &long), name("/data", &other));
    let text = |socket: &str| {
        format!(
            "controllers: [c1:4700]\ndataDir: /data\n{WORKLOAD}\nagent: {{kind: grpc, socket: '{socket}'}}"
        )
    };
    check(
        &text("/run/agent.sock"),
        &[
            "agent.socket: /run/agent.sock: gRPC reaches an abstract socket only; name one as '@<name>', or leave it out",
        ],
    );
    check(
        &text("@run/agent"),
        &[
            "agent.socket: @run/agent: the name must consist of letters, digits, dots, dashes and underscores",
        ],
    );
}

#[test]
fn what_is_not_a_mapping_is_refused() {
    check(
        "- a",
        &[
            ": must be a mapping, not a list",
            "workload: is missing",
            "controllers: is missing; name controllers, or give a joinToken that does",
        ]
        .map(|line| line.trim_start_matches(": ")),
    );
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let refused = "workers: 1\nworkers: 2".parse::<Config>().unwrap_err();
    assert!(refused.to_string().contains("duplicate"), "{refused}");
}
