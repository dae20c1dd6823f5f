//! `in/…` aside: ports and hosts.

use super::*;

#[test]
fn http_and_opaque_ports_are_told_apart() {
    let Value::Listener(http) = read("out/a:80", &http_listener("out/a:80", PORT)).unwrap() else {
        panic!("no listener");
    };
    assert_eq!(
        (http.protocol, http.routes.as_deref()),
        (Protocol::Http1, Some(PORT))
    );
    assert!(http.opaque.is_none());
    let Value::Listener(tcp) = read("out/a:80", &tcp_listener("out/a:80", PORT)).unwrap() else {
        panic!("no listener");
    };
    assert_eq!((tcp.protocol, tcp.routes.as_deref()), (Protocol::Tcp, None));
    assert_eq!(&*tcp.opaque.as_ref().unwrap().backends[0].cluster, PORT);
    assert_eq!(
        (&*tcp.namespace, &*tcp.service, tcp.port),
        ("shop", "api", 80)
    );
}

#[test]
fn chains_that_do_not_fit_the_protocol_are_refused() {
    let check = |change: fn(&mut Listener), expected: &str| {
        let mut listener = http_listener("out/a:80", PORT);
        change(&mut listener);
        refuse("out/a:80", &listener, expected);
    };
    check(
        |one| one.filter_chains.clear(),
        "filter_chains: does not fit the protocol Http1",
    );
    check(
        |one| one.default_filter_chain = tcp_listener("", PORT).default_filter_chain,
        "default_filter_chain: does not fit the protocol Http1",
    );
    check(
        |one| one.filter_chains.push(one.filter_chains[0].clone()),
        "filter_chains: holds more than one",
    );
    check(
        |one| one.filter_chains[0].filters.clear(),
        "filter_chains[0].filters: must hold exactly one",
    );
    check(
        |one| one.filter_chains = vec![tcp_listener("", PORT).default_filter_chain.unwrap()],
        "filter_chains[0].filters[0].typed_config: holds \"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\", not HttpConnectionManager",
    );
    check(
        |one| one.metadata = None,
        "metadata.typed_filter_metadata.maille.v1: is missing",
    );
    check(
        |one| one.metadata = metadata(&v1::Host::default()),
        "metadata.typed_filter_metadata.maille.v1: holds \"type.googleapis.com/maille.v1.Host\", not Outbound",
    );
    check(
        |one| {
            let all = &mut one.metadata.as_mut().unwrap().typed_filter_metadata;
            all.insert("envoy.lb".into(), any(&v1::Host::default()));
        },
        "metadata.typed_filter_metadata.envoy.lb: is not known here",
    );
    check(
        |one| {
            let outbound = v1::Outbound {
                namespace: "shop".into(),
                service: "api".into(),
                port: 80,
                protocol: 99,
            };
            one.metadata = metadata(&outbound);
        },
        "protocol: 99 is not known",
    );
}

#[test]
fn a_host_has_addresses() {
    let Value::Host(found) = read("host/api.shop", &host(&["240.0.0.1", "fd00::1"])).unwrap()
    else {
        panic!("no host");
    };
    assert_eq!(found.addresses.len(), 2);
    refuse(
        "host/api.shop",
        &host(&["x"]),
        "addresses[0]: \"x\" is no address",
    );
}
