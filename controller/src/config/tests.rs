//! The configuration as data: what it resolves to, and what is refused with which words.
#![allow(clippy::unwrap_used)]

use super::*;

const SMALLEST: &str = "name: c1\ndataDir: /data\nsecrets: /secrets\ntrustDomain: mesh.local\nbootstrapExpect: 1\n\
                        listen: {xds: 127.0.0.1, peers: 127.0.0.1, admin: 127.0.0.1, health: 127.0.0.1}\n";

/// Every expected text stands in one of the mistakes, and there are no more mistakes than texts.
fn check(text: &str, expected: &[&str]) {
    let mistakes = resolve(text).unwrap_err();
    let shown: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    for words in expected {
        assert!(
            shown.iter().any(|line| line.contains(words)),
            "`{words}` is not in {shown:#?}"
        );
    }
    assert_eq!(expected.len(), shown.len(), "{shown:#?}");
}

#[test]
fn defaults_are_filled_in_and_the_resolved_value_can_be_printed_and_read_back_by_a_person() {
    let config = resolve(SMALLEST).unwrap();
    assert_eq!("127.0.0.1:4700", config.advertise.xds);
    assert_eq!(4704, config.listen.health.port());
    assert_eq!((10_000, 5_000), (config.snapshot_every, config.keep_log));
    assert_eq!(10, config.move_streams_above);
    assert_eq!(Path::new("/data/admin.sock"), config.admin_socket);
    let yaml = config.to_yaml();
    assert!(
        yaml.contains("leafLifetimeSeconds: 86400") && yaml.contains("trustDomain: mesh.local"),
        "{yaml}"
    );
}

#[test]
fn a_lower_snapshot_threshold_keeps_half_of_it() {
    let config = resolve(&format!("{SMALLEST}snapshotEvery: 200\n")).unwrap();
    assert_eq!((200, 100), (config.snapshot_every, config.keep_log));
}

#[test]
fn every_mistake_is_reported_at_once() {
    check(
        "name: C_1\nbootstrapExpect: 2\nlisten:\n  xds: nowhere\n  health: 127.0.0.1:4701\n  peers: 127.0.0.1\nleafLifetime: 1y\nnmae: c1\n",
        &[
            "line 1: name: `C_1` is no name",
            "line 8: nmae: is not known; there are name, dataDir",
            "dataDir: is missing",
            "secrets: is missing",
            "trustDomain: is missing",
            "listen.xds: `nowhere` is no address",
            "listen.health: is 127.0.0.1:4701, which listen.peers has already",
            "line 2: bootstrapExpect: is 2; use 1, 3 or 5",
            "line 7: leafLifetime: `1y` is ",
            "advertise.xds: is missing",
            "advertise.admin: is missing",
        ],
    );
}

#[test]
fn relations_between_fields_are_checked() {
    for (change, expected) in [
        (
            "bootstrapExpect: 1\njoinTokenFile: /t",
            "a controller either founds a cluster or joins one",
        ),
        (
            "bootstrapExpect: 3\npeers: ['a:1']",
            "names 1 controller(s), but bootstrapExpect is 3",
        ),
        (
            "joinTokenFile: /t",
            "name the peer port of at least one controller",
        ),
        ("", "say how many controllers found the cluster"),
        ("bootstrapExpect: 1\npeers: ['a']", "`a` is no `host:port`"),
        (
            "bootstrapExpect: 1\npeers: ['::1:5']",
            "an IPv6 address stands in brackets",
        ),
        ("bootstrapExpect: -1", "must be a whole number"),
        (
            "bootstrapExpect: 1\nroot: {key: /k}",
            "root.certificate: is missing",
        ),
        (
            "bootstrapExpect: 1\nlog: {level: '=,', format: xml}",
            "`xml` is no format",
        ),
        ("bootstrapExpect: 1\nleafLifetime: 30s", "use 1m to 48h"),
        (
            "bootstrapExpect: 1\nacceptPerSecond: 0",
            "is 0; use 1 or more, or leave it out for 500",
        ),
        (
            "bootstrapExpect: 1\nmoveStreamsAbove: 0",
            "is 0; use 1 or more, or leave it out for 10",
        ),
        (
            "bootstrapExpect: 1\nloadReportSeconds: 0",
            "is 0; use 1 to 60, or leave it out for 10",
        ),
        ("bootstrapExpect: 1\nloadReportSeconds: 61", "use 1 to 60"),
        ("bootstrapExpect: 1\nsnapshotEvery: 0", "must be 1 or more"),
        (
            "bootstrapExpect: 1\nkubernetes: {credentials: token}",
            "`token` is unknown; write `pod`, or name a `kubeconfig`",
        ),
        (
            "bootstrapExpect: 1\nkubernetes: {credentials: pod, kubeconfig: /k}",
            "stands beside `kubeconfig`; leave one out",
        ),
    ] {
        let text = SMALLEST.replace("bootstrapExpect: 1", change);
        let shown = resolve(&text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        assert!(
            shown.contains(expected),
            "{change}: `{expected}` is not in {shown}"
        );
    }
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_place() {
    let shown = resolve("name: [").unwrap_err()[0].to_string();
    assert!(
        shown.contains("is not valid YAML") && shown.contains("line"),
        "{shown}"
    );
    check("name: c1\nname: c2\n", &["is not valid YAML"]);
}
