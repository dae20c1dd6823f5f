//! What becomes of connections that leave.

use super::world::{APP, PROXY, World, check};

/// The proxy's listeners, and the application's own.
const LISTENERS: &str = "127.0.0.1:4740 [::1]:4740 127.0.0.1:4753 [::1]:4753 127.0.0.1:8080 [::1]:8080 10.27.0.1:8080 [fd27::1]:8080";
/// Two servers elsewhere.
const SERVERS: &str =
    "10.27.0.2:80 10.27.0.2:22 10.27.0.3:80 10.27.0.2:53 [fd27::2]:80 [fd27::2]:22 [fd27::2]:53";

fn world(options: &str) -> Option<World> {
    let mut world = World::new()?;
    world.set(options);
    world.listen_here(LISTENERS);
    world.listen_there(SERVERS);
    Some(world)
}

fn a_pod(variant: &str) {
    let options = "--skip-outbound-ports 22 --skip-destinations 10.27.0.3/32";
    let Some(world) = world(&format!("{options} --iptables {variant}")) else {
        return;
    };
    check(
        &[
            ("tcp 10.27.0.2:80", "at 4740 meant for 10.27.0.2:80"),
            ("tcp [fd27::2]:80", "at 4740 meant for [fd27::2]:80"),
            // Skipped ports and destinations are reached directly.
            ("tcp 10.27.0.2:22", "at 22"),
            ("tcp [fd27::2]:22", "at 22"),
            ("tcp 10.27.0.3:80", "at 80"),
            // Virtual addresses are redirected on every port, although no route leads anywhere but to lo.
            ("tcp 240.0.0.5:80", "at 4740 meant for 240.0.0.5:80"),
            ("tcp 250.1.2.3:22", "at 4740 meant for 250.1.2.3:22"),
            (
                "tcp 240.0.0.5:80 10.27.0.1",
                "at 4740 meant for 240.0.0.5:80",
            ),
            (
                "tcp [fd4d:6169:6c6c:65::5]:80",
                "at 4740 meant for [fd4d:6169:6c6c:65::5]:80",
            ),
            (
                "tcp [fd4d:6169:6c6c:65::5]:22 fd27::1",
                "at 4740 meant for [fd4d:6169:6c6c:65::5]:22",
            ),
            // The application calls itself directly.
            ("tcp 127.0.0.1:8080", "at 8080"),
            ("tcp [::1]:8080", "at 8080"),
            ("tcp 10.27.0.1:8080", "at 8080"),
            ("tcp [fd27::1]:8080", "at 8080"),
            // UDP is nobody's business.
            ("udp 10.27.0.2:80", "at 80"),
            ("udp 10.27.0.2:53", "at 53"),
        ],
        |what| world.ask_here(APP, what),
    );
    check(
        &[
            ("tcp 10.27.0.2:80", "at 80"),
            ("tcp [fd27::2]:80", "at 80"),
            ("tcp 10.27.0.1:8080", "at 8080"),
        ],
        |what| world.ask_here(PROXY, what),
    );
}

#[test]
fn a_pod_redirects_all_but_what_is_skipped_and_its_own() {
    a_pod("nft");
}

#[test]
fn the_legacy_variant_does_the_same() {
    a_pod("legacy");
}

#[test]
fn a_host_redirects_virtual_addresses_only() {
    let Some(world) = world("--mode host") else {
        return;
    };
    check(
        &[
            ("tcp 240.0.0.5:80", "at 4740 meant for 240.0.0.5:80"),
            (
                "tcp [fd4d:6169:6c6c:65::5]:443",
                "at 4740 meant for [fd4d:6169:6c6c:65::5]:443",
            ),
            ("tcp 10.27.0.2:80", "at 80"),
            ("tcp [fd27::2]:22", "at 22"),
            ("tcp 10.27.0.1:8080", "at 8080"),
        ],
        |what| world.ask_here(APP, what),
    );
}

#[test]
fn without_routes_a_connect_fails_before_it_could_be_redirected() {
    let Some(world) = world("--mode host --no-routes") else {
        return;
    };
    check(
        &[
            ("tcp 240.0.0.5:80", "failed: Network is unreachable"),
            (
                "tcp [fd4d:6169:6c6c:65::5]:80",
                "failed: Network is unreachable",
            ),
        ],
        |what| world.ask_here(APP, what),
    );
}

#[test]
fn the_proxy_can_be_known_by_its_group() {
    let Some(world) = world(&format!("--proxy-gid {APP}")) else {
        return;
    };
    check(&[("tcp 10.27.0.2:80", "at 80")], |what| {
        world.ask_here(APP, what)
    });
    check(&[("tcp 10.27.0.2:80", "at 4740")], |what| {
        world.ask_here(PROXY, what)
    });
}

#[test]
fn dns_goes_to_the_proxy_except_from_the_proxy() {
    let Some(world) = world("--dns all --mode host") else {
        return;
    };
    let questions = [
        "udp 10.27.0.2:53",
        "tcp 10.27.0.2:53",
        "udp [fd27::2]:53",
        "tcp [fd27::2]:53",
        "udp 127.0.0.53:53",
    ];
    check(&questions.map(|question| (question, "at 4753")), |what| {
        world.ask_here(APP, what)
    });
    check(
        &questions[..4]
            .iter()
            .map(|question| (*question, "at 53"))
            .collect::<Vec<_>>(),
        |what| world.ask_here(PROXY, what),
    );
    check(&[("udp 10.27.0.2:80", "at 80")], |what| {
        world.ask_here(APP, what)
    });
}

#[test]
fn only_questions_to_the_named_servers_go_to_the_proxy() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "nameserver 127.0.0.53\nnameserver fd27::2\n").unwrap();
    let Some(world) = world(&format!(
        "--dns servers --resolv-conf {} --mode host",
        file.path().display()
    )) else {
        return;
    };
    check(
        &[
            ("udp 127.0.0.53:53", "at 4753"),
            ("tcp 127.0.0.53:53", "at 4753"),
            ("udp [fd27::2]:53", "at 4753"),
            // A local resolver's own questions.
            ("udp 10.27.0.2:53", "at 53"),
        ],
        |what| world.ask_here(APP, what),
    );
}

#[test]
fn a_namespace_with_no_address_but_loopback_reaches_virtual_addresses() {
    let Some(world) = world("") else { return };
    world.here("ip addr flush dev wire");
    check(
        &[
            ("tcp 240.0.0.5:80", "at 4740 meant for 240.0.0.5:80"),
            (
                "tcp [fd4d:6169:6c6c:65::5]:80",
                "at 4740 meant for [fd4d:6169:6c6c:65::5]:80",
            ),
        ],
        |what| world.ask_here(APP, what),
    );
}
