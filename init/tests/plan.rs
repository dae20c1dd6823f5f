//! Properties of plans, whatever the settings: found by walking packets through the planned rules as a kernel would.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use ipnet::IpNet;
use maille_init::plan::{
    Dns, Family, Mode, Owner, Plan, PortRange, ProxyPorts, Rule, Settings, Target, Transport, plan,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Packet {
    source: IpAddr,
    destination: IpAddr,
    transport: Transport,
    port: u16,
    uid: u32,
    gid: u32,
    loopback: bool,
}

fn matches(rule: &Rule, packet: &Packet) -> bool {
    rule.source.is_none_or(|net| net.contains(&packet.source))
        && rule
            .destination
            .is_none_or(|net| net.contains(&packet.destination))
        && (!rule.loopback || packet.loopback)
        && rule
            .transport
            .is_none_or(|transport| transport == packet.transport)
        && (rule.ports.is_empty() || rule.ports.iter().any(|range| range.contains(packet.port)))
        && rule.uid.is_none_or(|uid| uid == packet.uid)
        && rule.gid.is_none_or(|gid| gid == packet.gid)
}

/// The port that a packet on this hook is redirected to.
fn walk(plan: &Plan, hook: &str, packet: &Packet) -> Option<u16> {
    let chain = plan
        .chains
        .iter()
        .find(|chain| chain.hook == hook && matches(&chain.jump, packet))?;
    match chain
        .rules
        .iter()
        .find(|rule| matches(rule, packet))?
        .target
    {
        Target::Redirect(port) => Some(port),
        Target::Return | Target::Jump(_) => None,
    }
}

fn port_ranges() -> impl Strategy<Value = Vec<PortRange>> {
    let range = (1u16..=2000, 0u16..50).prop_map(|(first, more)| PortRange {
        first,
        last: first + more,
    });
    proptest::collection::vec(range, 0..30)
}

fn networks() -> impl Strategy<Value = Vec<IpNet>> {
    let network = (any::<[u8; 4]>(), 1u8..=32)
        .prop_map(|(ip, length)| IpNet::new(IpAddr::from(ip), length).unwrap());
    proptest::collection::vec(network, 0..4)
}

prop_compose! {
    fn settings()(
        pod in any::<bool>(), gid in proptest::option::of(0u32..4), dns in any::<bool>(), inbound in port_ranges(),
        skip_inbound in port_ranges(), skip_outbound in port_ranges(), skip_destinations in networks(), skip_sources in networks(),
    ) -> Settings {
        Settings {
            mode: if pod { Mode::Pod } else { Mode::Host },
            owner: Owner { uid: Some(2740), gid },
            ports: ProxyPorts { outbound: 4740, mesh: 4743, metrics: 4791, dns: 4753 },
            dns: if dns { Dns::All } else { Dns::Off },
            virtual_ranges: vec!["240.0.0.0/4".parse().unwrap()],
            inbound: if pod { Vec::new() } else { inbound },
            skip_inbound, skip_outbound, skip_destinations, skip_sources,
            routes: true,
        }
    }
}

prop_compose! {
    fn packets()(
        source in any::<[u8; 4]>(), destination in any::<[u8; 4]>(), virtual_address in any::<bool>(), udp in any::<bool>(),
        port in prop_oneof![1u16..=2100, Just(53), Just(4743), Just(4791)], uid in prop_oneof![Just(2740u32), Just(1000)], gid in 0u32..4,
        loopback in any::<bool>(),
    ) -> Packet {
        let mut destination = destination;
        if virtual_address {
            destination[0] |= 0xf0;
        }
        Packet {
            source: source.into(), destination: destination.into(), port, uid, gid, loopback,
            transport: if udp { Transport::Udp } else { Transport::Tcp },
        }
    }
}

fn in_any(nets: &[IpNet], ip: &IpAddr) -> bool {
    nets.iter().any(|net| net.contains(ip))
}

fn has(ranges: &[PortRange], port: u16) -> bool {
    ranges.iter().any(|range| range.contains(port))
}

/// What the documentation promises for a packet that the application sends, said once more in other words.
fn expected_outbound(settings: &Settings, packet: &Packet) -> Option<u16> {
    if settings.owner.uid == Some(packet.uid) || settings.owner.gid == Some(packet.gid) {
        return None;
    }
    if settings.dns == Dns::All && packet.port == 53 {
        return Some(settings.ports.dns);
    }
    if packet.transport == Transport::Udp
        || in_any(&settings.skip_destinations, &packet.destination)
    {
        return None;
    }
    let is_virtual = in_any(&settings.virtual_ranges, &packet.destination);
    let direct =
        packet.loopback || has(&settings.skip_outbound, packet.port) || settings.mode == Mode::Host;
    (is_virtual || !direct).then_some(settings.ports.outbound)
}

fn expected_inbound(settings: &Settings, packet: &Packet) -> Option<u16> {
    let skipped =
        has(&settings.skip_inbound, packet.port) || in_any(&settings.skip_sources, &packet.source);
    let meant = match settings.mode {
        Mode::Pod => packet.port != settings.ports.mesh && packet.port != settings.ports.metrics,
        Mode::Host => has(&settings.inbound, packet.port),
    };
    (packet.transport == Transport::Tcp && meant && !skipped).then_some(settings.ports.mesh)
}

proptest! {
    #[test]
    fn every_packet_goes_where_the_settings_say(settings in settings(), packet in packets()) {
        let plan = plan(&settings, Family::V4);
        prop_assert_eq!(walk(&plan, "OUTPUT", &packet), expected_outbound(&settings, &packet));
        prop_assert_eq!(walk(&plan, "PREROUTING", &packet), expected_inbound(&settings, &packet));
    }

    #[test]
    fn no_rule_has_more_ports_than_a_multiport_match_takes(settings in settings()) {
        for rule in plan(&settings, Family::V4).chains.iter().flat_map(|chain| &chain.rules) {
            let slots: usize = rule.ports.iter().map(|range| if range.first == range.last { 1 } else { 2 }).sum();
            prop_assert!(slots <= 15, "{:?}", rule.ports);
        }
    }

    #[test]
    fn a_family_holds_only_its_own_networks(settings in settings()) {
        let plan = plan(&settings, Family::V6);
        prop_assert!(plan.routes.is_empty());
        let nets = plan.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| [rule.source, rule.destination]).flatten();
        prop_assert_eq!(nets.count(), 0);
    }
}
