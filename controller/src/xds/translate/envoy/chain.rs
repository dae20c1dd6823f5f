//! Listeners' parts: addresses, filters, what a connection begins with.

use std::net::IpAddr;
use std::time::Duration;

use prost::Name;
use xds_api::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use xds_api::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, CidrRange, ConfigSource,
};
use xds_api::envoy::config::listener::v3::listener_filter_chain_match_predicate::{MatchSet, Rule};
use xds_api::envoy::config::listener::v3::{
    AdditionalAddress, Filter, Listener, ListenerFilter, ListenerFilterChainMatchPredicate, filter,
    listener_filter,
};
use xds_api::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use xds_api::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use xds_api::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use xds_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use xds_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use xds_api::envoy::r#type::v3::Int32Range;
use xds_api::google::protobuf::{self, BoolValue};

use super::super::any::{number, pack};
use super::super::dial::address;

/// How long a listener waits for a client's first bytes where it must see them. A protocol in which the server speaks first waits as long at a port
/// whose protocol nobody declared.
const FIRST_BYTES: Duration = Duration::from_millis(500);
/// What HTTP in clear begins with, by Envoy's inspector.
pub(super) const HTTP: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];

/// "From this same stream."
pub(super) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3 as i32,
        ..Default::default()
    })
}

pub(super) fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

pub(super) fn no() -> Option<BoolValue> {
    Some(BoolValue { value: false })
}

/// A listener that is bound to some addresses; `None` where there is none.
pub(super) fn bound(addresses: &[String]) -> Option<Listener> {
    let mut addresses = addresses.iter().filter_map(|text| text.parse().ok());
    let first = address(addresses.next()?);
    let more = |one| AdditionalAddress {
        address: address(one),
    };
    Some(Listener {
        address: first,
        additional_addresses: addresses.map(more).collect(),
        ..Default::default()
    })
}

pub(super) fn range(address: IpAddr, length: u8) -> CidrRange {
    CidrRange {
        address_prefix: address.to_string(),
        prefix_len: number(u32::from(length)),
    }
}

/// A filter with its configuration.
pub(super) fn filter<M: Name>(name: &str, config: &M) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack(config))),
    }
}

/// Passes bytes on to a cluster.
pub(super) fn opaque(stat_prefix: &str, cluster: &str) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
    };
    filter("envoy.filters.network.tcp_proxy", &proxy)
}

/// Has a listener tell the destinations of redirected connections apart.
pub(super) fn original_destination() -> ListenerFilter {
    listener_filter("envoy.filters.listener.original_dst", &OriginalDst {}, None)
}

/// Looks for TLS in connections that were made to `port`.
pub(super) fn tls_inspector(port: u16) -> ListenerFilter {
    listener_filter(
        "envoy.filters.listener.tls_inspector",
        &TlsInspector {},
        Some(elsewhere(&[port])),
    )
}

/// Looks for HTTP in connections that were made to one of `ports`; `None`: in all.
pub(super) fn http_inspector(ports: Option<&[u16]>) -> ListenerFilter {
    listener_filter(
        "envoy.filters.listener.http_inspector",
        &HttpInspector {},
        ports.map(elsewhere),
    )
}

/// Whoever has not spoken by then is taken for one who waits for the server.
pub(super) fn wait_for_first_bytes(listener: &mut Listener) {
    listener.listener_filters_timeout = Some(time(FIRST_BYTES));
    listener.continue_on_listener_filters_timeout = true;
}

pub(super) fn time(span: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: span.as_secs().cast_signed(),
        nanos: span.subsec_nanos().cast_signed(),
    }
}

fn listener_filter<M: Name>(
    name: &str,
    config: &M,
    filter_disabled: Option<ListenerFilterChainMatchPredicate>,
) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(pack(config))),
        filter_disabled,
    }
}

/// Holds for connections that were made to none of these ports.
fn elsewhere(ports: &[u16]) -> ListenerFilterChainMatchPredicate {
    let predicate = |rule| ListenerFilterChainMatchPredicate { rule: Some(rule) };
    let port = |port: &u16| {
        let start = i32::from(*port);
        predicate(Rule::DestinationPortRange(Int32Range {
            start,
            end: start + 1,
        }))
    };
    let inside = match ports {
        [one] => port(one),
        several => predicate(Rule::OrMatch(MatchSet {
            rules: several.iter().map(port).collect(),
        })),
    };
    predicate(Rule::NotMatch(Box::new(inside)))
}
