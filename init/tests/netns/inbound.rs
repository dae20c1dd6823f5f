//! What becomes of connections that come in.

use super::world::{APP, World, check};

const LISTENERS: &str = "0.0.0.0:4743 [::]:4743 0.0.0.0:4791 [::]:4791 0.0.0.0:8080 [::]:8080 0.0.0.0:9005 [::]:9005 0.0.0.0:22 [::]:22";

fn world(options: &str) -> Option<World> {
    let mut world = World::new()?;
    world.set(options);
    world.listen_here(LISTENERS);
    Some(world)
}

fn a_pod(variant: &str) {
    let options = "--skip-inbound-ports 22 --skip-sources 10.27.0.3/32";
    let Some(world) = world(&format!("{options} --iptables {variant}")) else {
        return;
    };
    check(
        &[
            ("tcp 10.27.0.1:8080", "at 4743 meant for 10.27.0.1:8080"),
            ("tcp [fd27::1]:8080", "at 4743 meant for [fd27::1]:8080"),
            // A port on which nobody listens is the proxy's too: it is the one who refuses.
            ("tcp 10.27.0.1:8081", "at 4743 meant for 10.27.0.1:8081"),
            ("tcp 10.27.0.1:4743", "at 4743 meant for 10.27.0.1:4743"),
            ("tcp [fd27::1]:4743", "at 4743 meant for [fd27::1]:4743"),
            ("tcp 10.27.0.1:4791", "at 4791"),
            ("tcp [fd27::1]:4791", "at 4791"),
            ("tcp 10.27.0.1:22", "at 22"),
            ("tcp [fd27::1]:22", "at 22"),
            ("tcp 10.27.0.1:8080 10.27.0.3", "at 8080"),
            ("udp 10.27.0.1:8080", "at 8080"),
        ],
        |what| world.ask_there(what),
    );
    check(
        &[
            ("tcp 10.27.0.1:8080", "at 8080"),
            ("tcp [fd27::1]:8080", "at 8080"),
        ],
        |what| world.ask_here(APP, what),
    );
}

#[test]
fn a_pod_redirects_all_but_what_is_skipped_and_the_proxys_own() {
    a_pod("nft");
}

#[test]
fn the_legacy_variant_does_the_same() {
    a_pod("legacy");
}

#[test]
fn a_host_redirects_registered_ports_only() {
    let Some(world) =
        world("--mode host --inbound-ports 8080,9000-9010 --skip-sources 10.27.0.3/32")
    else {
        return;
    };
    check(
        &[
            ("tcp 10.27.0.1:8080", "at 4743 meant for 10.27.0.1:8080"),
            ("tcp [fd27::1]:9005", "at 4743 meant for [fd27::1]:9005"),
            ("tcp 10.27.0.1:9010", "at 4743 meant for 10.27.0.1:9010"),
            ("tcp 10.27.0.1:22", "at 22"),
            ("tcp [fd27::1]:22", "at 22"),
            ("tcp 10.27.0.1:9005 10.27.0.3", "at 9005"),
            ("tcp 10.27.0.1:9011", "failed: Connection refused"),
        ],
        |what| world.ask_there(what),
    );
}
