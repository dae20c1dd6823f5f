//! The texts that `--simulate` prints, as a person reviews them.

#![allow(clippy::unwrap_used)]

use std::process::Command;

fn simulate(arguments: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_maille-init"))
        .arg("--simulate")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_pod_redirects_all_tcp() {
    insta::assert_snapshot!(simulate(""));
}

#[test]
fn a_pod_with_everything_that_can_be_skipped() {
    insta::assert_snapshot!(simulate(
        "--dns all --proxy-uid 12 --proxy-gid 13 --skip-inbound-ports 22,4567-4568 --skip-outbound-ports 25,3306,11211 \
         --skip-destinations 10.1.0.0/16,192.168.7.9/32,fd00:1::/32,10.2.3.4/8 --skip-sources 10.9.0.0/16,fd00:9::/48"
    ));
}

#[test]
fn a_host_redirects_virtual_addresses_and_registered_ports() {
    insta::assert_snapshot!(simulate(
        "--mode host --inbound-ports 8080,9000-9010 --skip-sources 10.0.0.0/24 --skip-inbound-ports 9005 --dns all"
    ));
}

#[test]
fn a_host_without_registered_ports_has_no_inbound_chain() {
    insta::assert_snapshot!(simulate("--mode host --ipv6 off --no-routes"));
}

#[test]
fn many_ports_are_split_as_a_multiport_match_allows() {
    let ports: Vec<String> = (1..=14)
        .map(|port| port.to_string())
        .chain(["100-200".into(), "300".into()])
        .collect();
    insta::assert_snapshot!(simulate(&format!(
        "--ipv6 off --skip-inbound-ports {}",
        ports.join(",")
    )));
}

#[test]
fn only_the_named_name_servers_are_redirected() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "nameserver 127.0.0.53\nnameserver 2001:db8::53\nsearch example\n",
    )
    .unwrap();
    insta::assert_snapshot!(simulate(&format!(
        "--mode host --dns servers --resolv-conf {}",
        file.path().display()
    )));
}
