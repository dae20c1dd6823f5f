//! Goldens of every kind of resource: as a person reads them, and their versions, which pin their bytes.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use prost::{Message, Name as MessageName};
use xds_api::envoy::config::cluster::v3::Cluster;
use xds_api::envoy::config::core::v3::Metadata;
use xds_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use xds_api::envoy::config::listener::v3::{FilterChain, Listener, filter};
use xds_api::envoy::config::route::v3::RouteConfiguration;
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use xds_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use xds_api::envoy::extensions::transport_sockets::tls::v3::Secret;
use xds_api::maille::v1;

use super::*;
use crate::model::tests::{Log, instance, puts};
use crate::model::{Command, Name};

/// A mesh with something of everything.
pub(crate) fn sample_text() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/xds/translate/native/tests/sample.yaml"
    );
    std::fs::read_to_string(path).unwrap()
}

/// The sample, with two sidecars.
pub(crate) fn sample() -> Log {
    let mut log = Log::new();
    log.run(puts(&sample_text())).accepted().unwrap();
    for (name, address, health, locality) in [
        ("web-1", "10.0.0.1", 1, "eu/a"),
        ("web-2", "10.0.0.2", 2, "eu/b"),
        ("web-3", "10.0.0.3", 0, "eu/b"),
    ] {
        let mut one = instance(name, 1);
        one.name = Name::new("shop", name);
        one.addresses = vec![address.to_owned(), "fd00::7".to_owned()];
        one.locality = locality.to_owned();
        one.identity = "spiffe://test.mesh/ns/shop/sa/web".to_owned();
        one.ports[0].health = health;
        log.run(Command::Register(one)).accepted().unwrap();
    }
    log
}

fn body(log: &Log, kind: TypeUrl, name: &str) -> Option<bytes::Bytes> {
    let found = translate(log.state.mesh(), kind, &name.into())?;
    assert_eq!(&**found.resource.name(), name);
    Some(found.resource.body().clone())
}

/// The metadata's message, taken out.
fn own<M: MessageName + Default>(metadata: &mut Option<Metadata>) -> M {
    let mut all = metadata.take().unwrap().typed_filter_metadata;
    assert_eq!(all.len(), 1);
    let any = all.remove("maille.v1").unwrap();
    assert_eq!(any.type_url, M::type_url());
    M::decode(any.value).unwrap()
}

fn chain(chain: FilterChain) -> String {
    let [filter] = &chain.filters[..] else {
        panic!("{chain:?}")
    };
    let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        panic!("{filter:?}")
    };
    if any.type_url == TcpProxy::type_url() {
        return format!(
            "{} {:#?}",
            filter.name,
            TcpProxy::decode(any.value.clone()).unwrap()
        );
    }
    assert_eq!(any.type_url, HttpConnectionManager::type_url());
    format!(
        "{} {:#?}",
        filter.name,
        HttpConnectionManager::decode(any.value.clone()).unwrap()
    )
}

fn listener<M: MessageName + Default + std::fmt::Debug>(log: &Log, name: &str) -> String {
    let mut listener = Listener::decode(body(log, TypeUrl::Listener, name).unwrap()).unwrap();
    let mut text = format!(
        "{}\n{:#?}\n",
        listener.name,
        own::<M>(&mut listener.metadata)
    );
    for one in listener.filter_chains {
        writeln!(text, "chain: {}", chain(one)).unwrap();
    }
    if let Some(one) = listener.default_filter_chain {
        writeln!(text, "default chain: {}", chain(one)).unwrap();
    }
    text
}

#[test]
fn listeners() {
    let log = sample();
    insta::assert_snapshot!("inbound", listener::<v1::Inbound>(&log, "in/shop/web-1"));
    insta::assert_snapshot!(
        "inbound_described",
        listener::<v1::Inbound>(&log, "in/shop/legacy")
    );
    insta::assert_snapshot!("host", listener::<v1::Host>(&log, "host/web.shop"));
    insta::assert_snapshot!(
        "outbound_http",
        listener::<v1::Outbound>(&log, "out/web.shop:80")
    );
    insta::assert_snapshot!(
        "outbound_detected",
        listener::<v1::Outbound>(&log, "out/web.shop:81")
    );
    insta::assert_snapshot!(
        "outbound_tcp",
        listener::<v1::Outbound>(&log, "out/db.shop:5432")
    );
    let vip = log
        .state
        .mesh()
        .vips()
        .get(&Name::new("shop", "db"))
        .unwrap()
        .v6;
    let at_address = listener::<v1::Outbound>(&log, &format!("out/[{vip}]:5432"));
    let by_name = listener::<v1::Outbound>(&log, "out/db.shop:5432");
    assert_eq!(
        at_address.split_once('\n').unwrap().1,
        by_name.split_once('\n').unwrap().1
    );
}

#[test]
fn routes() {
    let log = sample();
    let routes = |name: &str| {
        let read = RouteConfiguration::decode(body(&log, TypeUrl::Route, name).unwrap()).unwrap();
        format!("{read:#?}")
    };
    insta::assert_snapshot!("routes", routes("shop/web:80"));
    insta::assert_snapshot!("routes_default", routes("shop/api:80"));
}

#[test]
fn clusters() {
    let log = sample();
    let cluster = |name: &str| {
        let mut read = Cluster::decode(body(&log, TypeUrl::Cluster, name).unwrap()).unwrap();
        let own = own::<v1::Destination>(&mut read.metadata);
        format!("{read:#?}\n{own:#?}")
    };
    insta::assert_snapshot!("cluster_default", cluster("shop/web:81"));
    insta::assert_snapshot!("cluster_policy", cluster("shop/web:80"));
}

#[test]
fn endpoints() {
    let log = sample();
    let mut text = String::new();
    for name in ["shop/web:80", "shop/db:5432", "shop/api:80"] {
        let bytes = body(&log, TypeUrl::Endpoints, name).unwrap();
        let read = ClusterLoadAssignment::decode(bytes).unwrap();
        writeln!(text, "{}", read.cluster_name).unwrap();
        for group in read.endpoints {
            writeln!(text, "  {:?}", group.locality).unwrap();
            for mut one in group.lb_endpoints {
                let extra = own::<v1::EndpointExtra>(&mut one.metadata);
                let Some(HostIdentifier::Endpoint(host)) = one.host_identifier else {
                    panic!()
                };
                writeln!(
                    text,
                    "    {:?} health {} {extra:?}",
                    host.address, one.health_status
                )
                .unwrap();
            }
        }
    }
    insta::assert_snapshot!("endpoints", text);
}

#[test]
fn roots() {
    let mut log = sample();
    assert!(body(&log, TypeUrl::Secret, "roots/test.mesh").is_none());
    log.run(Command::SetTrust(crate::model::command::SetTrust {
        roots: vec![crate::model::Root {
            certificate: vec![7; 100].into(),
            phase: 0,
        }],
        ..Default::default()
    }))
    .accepted()
    .unwrap();
    let read = Secret::decode(body(&log, TypeUrl::Secret, "roots/test.mesh").unwrap()).unwrap();
    insta::assert_snapshot!("roots", format!("{read:#?}"));
    assert!(body(&log, TypeUrl::Secret, "roots/other.mesh").is_none());
}

#[test]
fn what_is_not_there_has_no_resource() {
    let log = sample();
    let check = |kind, name: &str| assert!(body(&log, kind, name).is_none(), "{name}");
    for name in [
        "in/shop/nope",
        "host/nope.shop",
        "host/web.nope",
        "out/web.shop:82",
        "out/240.9.9.9:80",
        "x",
    ] {
        check(TypeUrl::Listener, name);
    }
    for kind in [TypeUrl::Route, TypeUrl::Cluster, TypeUrl::Endpoints] {
        for name in ["shop/web:82", "shop/nope:80", "nope/web:80", "web", ""] {
            check(kind, name);
        }
    }
    check(TypeUrl::Route, "shop/db:5432");
}

/// Level 1's bytes: a change of any of them re-sends that resource to every client in the middle of an upgrade.
#[test]
fn the_bytes_of_level_1_do_not_change() {
    let log = sample();
    let cache = crate::xds::cache::Cache::new(&log.state);
    let published = cache.published();
    let mut text = String::new();
    for kind in TypeUrl::ALL {
        for name in crate::xds::hashes::all_names(&published.mesh, kind) {
            if let Some(found) = translate(&published.mesh, kind, &name) {
                writeln!(text, "{} {name} {}", kind.short(), found.resource.version()).unwrap();
            }
        }
    }
    insta::assert_snapshot!("level_1", text);
}
