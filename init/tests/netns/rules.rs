//! Setting, setting again, checking, taking away, and what is said when it cannot be done.

use super::world::{PROXY, World};

const VARIANTS: [(&str, &str); 2] = [("nft", "-nft"), ("legacy", "-legacy")];
/// Every kind of rule.
const FULL: &str = "--dns all --skip-inbound-ports 22,4567-4568 --skip-outbound-ports 25 --skip-destinations 10.1.0.0/16,fd00:1::/32 \
                    --skip-sources 10.9.0.0/16,0.0.0.0/0 --proxy-uid 2740 --proxy-gid 2741";

#[test]
fn set_twice_is_set_once_and_check_agrees() {
    for (variant, ending) in VARIANTS {
        let Some(world) = World::new() else { return };
        let full = format!("{FULL} --iptables {variant}");
        world.set(&full);
        let once = world.saved(ending);
        let (code, _, said) = world.init(&full);
        assert_eq!(
            (code, said.matches("already as it should be").count()),
            (0, 2),
            "{variant}: {said}"
        );
        assert_eq!(world.saved(ending), once, "{variant}");
        // What was set by a variant's name is found without it.
        let (code, differs, _) = world.init(&format!("{FULL} --check"));
        assert_eq!((code, differs.as_str()), (0, ""), "{variant}");
    }
}

#[test]
fn other_options_replace_the_rules_and_leave_no_trace_of_the_old() {
    for (variant, ending) in VARIANTS {
        let Some(world) = World::new() else { return };
        let host = format!("--mode host --virtual-range 241.0.0.0/8 --iptables {variant}");
        world.set(&host);
        let fresh = (world.saved(ending), routes(&world));
        world.set(&format!("{FULL} --iptables {variant}"));
        assert_ne!(world.saved(ending), fresh.0, "{variant}");
        world.set(&host);
        assert_eq!((world.saved(ending), routes(&world)), fresh, "{variant}");
    }
}

#[test]
fn remove_leaves_only_what_others_set() {
    for (variant, ending) in VARIANTS {
        let Some(world) = World::new() else { return };
        world.here(&format!(
            "iptables{ending} -t nat -A OUTPUT -p tcp --dport 9 -j REDIRECT --to-ports 10"
        ));
        world.here(&format!(
            "ip6tables{ending} -t nat -A PREROUTING -p tcp --dport 9 -j REDIRECT --to-ports 10"
        ));
        world.here("ip route add 10.99.0.0/16 dev lo");
        let before = (
            world.saved(ending),
            world.here("ip route"),
            world.here("ip -6 route"),
        );
        world.set(&format!("{FULL} --iptables {variant}"));
        world.set("--remove");
        assert_eq!(
            (
                world.saved(ending),
                world.here("ip route"),
                world.here("ip -6 route")
            ),
            before,
            "{variant}"
        );
        let (code, _, said) = world.init("--remove");
        assert_eq!(
            (code, said.matches("nothing of ours was there").count()),
            (0, 2),
            "{said}"
        );
    }
}

#[test]
fn check_names_what_was_tampered_with_and_a_new_run_repairs_it() {
    let Some(world) = World::new() else { return };
    world.set(FULL);
    let whole = world.saved("");
    for (tampering, expected) in [
        (
            "iptables -t nat -D MAILLE_OUTBOUND 1",
            "IPv4: MAILLE_OUTBOUND rule 1: expected `-m owner --uid-owner 2740",
        ),
        (
            "iptables -t nat -I MAILLE_INBOUND 2 -p tcp -j RETURN",
            "IPv4: MAILLE_INBOUND rule 2: expected `",
        ),
        (
            "ip6tables -t nat -A MAILLE_INBOUND -p tcp -j RETURN",
            "IPv6: MAILLE_INBOUND rule 4 is too much",
        ),
        (
            "ip6tables -t nat -F MAILLE_OUTBOUND",
            "IPv6: MAILLE_OUTBOUND rule 1 is missing",
        ),
        (
            "iptables -t nat -D OUTPUT 1",
            "IPv4: no jump leads to MAILLE_OUTBOUND",
        ),
        (
            "iptables -t nat -A OUTPUT -j MAILLE_OUTBOUND",
            "IPv4: expected the one jump",
        ),
        (
            "ip6tables -t nat -R PREROUTING 1 -p tcp -s fd00::/8 -j MAILLE_INBOUND",
            "IPv6: expected the one jump",
        ),
        (
            "ip route del 240.0.0.0/4",
            "IPv4: the route of 240.0.0.0/4 to lo is missing",
        ),
        (
            "ip -6 route replace fd4d:6169:6c6c:65::/64 dev lo proto 74",
            "IPv6: the route of fd4d:6169:6c6c:65::/64 leads to `lo` with source ``",
        ),
    ] {
        world.here(tampering);
        let (code, differs, _) = world.init(&format!("{FULL} --check"));
        assert_eq!(code, 1, "after `{tampering}`: {differs}");
        assert!(differs.contains(expected), "after `{tampering}`: {differs}");
        world.set(FULL);
        assert_eq!(world.saved(""), whole, "after `{tampering}`");
        assert_eq!(
            world.init(&format!("{FULL} --check")).0,
            0,
            "after `{tampering}`"
        );
    }
}

#[test]
fn check_sees_a_namespace_where_nothing_was_set() {
    let Some(world) = World::new() else { return };
    let (code, differs, _) = world.init("--check");
    assert_eq!(code, 1);
    for expected in [
        "IPv4: chain MAILLE_OUTBOUND is missing",
        "IPv6: chain MAILLE_INBOUND is missing",
        "IPv6: the route of",
    ] {
        assert!(differs.contains(expected), "{differs}");
    }
}

#[test]
fn what_stands_in_the_way_is_named_with_its_remedy() {
    let Some(world) = World::new() else { return };
    let check = |wrapper: &str, arguments: &str, code: i32, expected: &[&str]| {
        let found = world.init_by(wrapper, arguments);
        assert_eq!(found.0, code, "`{wrapper} {arguments}`: {}", found.2);
        for expected in expected {
            assert!(
                found.2.contains(expected),
                "`{wrapper} {arguments}`: {}",
                found.2
            );
        }
        assert!(
            !world.saved("").contains("MAILLE"),
            "`{wrapper} {arguments}` left something behind"
        );
    };
    let user = format!("setpriv --reuid {PROXY} --regid {PROXY} --clear-groups");
    check(&user, "", 3, &["CAP_NET_ADMIN", "run it as root"]);
    check(&user, "--check", 3, &["CAP_NET_ADMIN"]);
    check(&user, "--simulate", 0, &[]);
    check(
        "env PATH=/nowhere",
        "",
        4,
        &["`iptables-save` was not found", "install iptables"],
    );
    check("", "--skip-sources 300.0.0.0/8", 2, &["--skip-sources"]);
    check("", "--inbound-ports 80", 2, &["--mode=host", "--help"]);
    world.here("ip route add 240.0.0.0/4 dev wire");
    check("", "", 6, &["240.0.0.0/4", "dev wire", "--no-routes"]);
    world.here("ip route del 240.0.0.0/4");
    world.here("ip link set lo down");
    check("", "", 6, &["`lo` is down", "ip link set lo up"]);
}

#[test]
fn ipv6_is_left_out_where_it_is_off_and_refused_where_it_is_live_without_tools() {
    let Some(world) = World::new() else { return };
    // A PATH with everything but ip6tables.
    let tools = tempfile::tempdir().unwrap();
    for tool in ["ip", "iptables-save", "iptables-restore"] {
        let found = world.here(&format!("which {tool}"));
        std::os::unix::fs::symlink(found.trim(), tools.path().join(tool)).unwrap();
    }
    let without = format!("env PATH={}", tools.path().display());
    let (code, _, said) = world.init_by(&without, "");
    assert_eq!(code, 4, "{said}");
    assert!(
        said.contains("IPv6 is in use here and cannot be redirected")
            && said.contains("--ipv6=off"),
        "{said}"
    );
    assert!(!world.saved("").contains("MAILLE"), "nothing is half done");

    let (code, _, said) = world.init_by(&without, "--ipv6 off");
    assert_eq!(code, 0, "{said}");
    world.set("--remove");

    world.here("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1");
    let (code, _, said) = world.init_by(&without, "");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("IPv6 is off here"), "{said}");
    let (code, _, said) = world.init_by(&without, "--ipv6 on");
    assert_eq!(code, 4, "{said}");
}

fn routes(world: &World) -> String {
    ["-4", "-6"]
        .map(|family| world.here(&format!("ip {family} route show proto 74")))
        .concat()
}
