//! Listeners `out/…` and `host/…`.

use super::foreign;
use super::strict::{
    Invalid, Within, check_ads, check_name, decode, invalid, metadata, not_empty, port, present,
    unpack,
};
use crate::snapshot::{Backend, Backends, HeaderChanges, Host, Listener, Protocol};
use bytes::Bytes;
use std::net::IpAddr;
use std::sync::Arc;
use xds_api::envoy::config::listener::v3 as envoy;
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3 as http;
use xds_api::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use xds_api::maille::v1;

/// The protocol of a port.
pub(super) fn protocol(field: &str, number: i32) -> Result<Protocol, Invalid> {
    Ok(match v1::Protocol::try_from(number) {
        Ok(v1::Protocol::Detect) => Protocol::Detect,
        Ok(v1::Protocol::Http1) => Protocol::Http1,
        Ok(v1::Protocol::Http2) => Protocol::Http2,
        Ok(v1::Protocol::Grpc) => Protocol::Grpc,
        Ok(v1::Protocol::Tcp) => Protocol::Tcp,
        Ok(v1::Protocol::Tls) => Protocol::Tls,
        Err(_) => return invalid(field, format!("{number} is not known")),
    })
}

/// What DNS answers.
pub(super) fn host(name: &Arc<str>, body: Bytes) -> Result<Host, Invalid> {
    let listener: envoy::Listener = decode(body)?;
    foreign::check(&listener)?;
    check_name("name", &listener.name, name)?;
    check_no_chains(&listener)?;
    let host: v1::Host = metadata(listener.metadata)?;
    not_empty("namespace", &host.namespace)?;
    not_empty("service", &host.service)?;
    let address = |(index, text): (usize, &String)| -> Result<IpAddr, Invalid> {
        text.parse()
            .map_err(|_| Invalid::new(format!("{text:?} is no address")))
            .within_item("addresses", index)
    };
    let addresses: Result<_, _> = host.addresses.iter().enumerate().map(address).collect();
    Ok(Host {
        namespace: host.namespace.into(),
        service: host.service.into(),
        addresses: addresses?,
        ttl_seconds: host.ttl_seconds,
    })
}

/// A listener whose metadata says everything.
pub(super) fn check_no_chains(listener: &envoy::Listener) -> Result<(), Invalid> {
    if !listener.filter_chains.is_empty() {
        return invalid("filter_chains", "must be empty");
    }
    if listener.default_filter_chain.is_some() {
        return invalid("default_filter_chain", "must be unset");
    }
    Ok(())
}

/// One port of a service, as a client calls it.
pub(super) fn outbound(name: &Arc<str>, body: Bytes) -> Result<Listener, Invalid> {
    let listener: envoy::Listener = decode(body)?;
    foreign::check(&listener)?;
    check_name("name", &listener.name, name)?;
    let outbound: v1::Outbound = metadata(listener.metadata)?;
    not_empty("namespace", &outbound.namespace)?;
    not_empty("service", &outbound.service)?;
    let protocol = protocol("protocol", outbound.protocol)?;
    let mut chains = listener.filter_chains.into_iter();
    let routes = match (chains.next(), chains.next()) {
        (None, _) => None,
        (Some(chain), None) => Some(routes_of(chain).within("filter_chains[0]")?),
        _ => return invalid("filter_chains", "holds more than one"),
    };
    let opaque = listener.default_filter_chain.map(backends_of);
    let opaque = opaque.transpose().within("default_filter_chain")?;
    check_protocol(protocol, routes.is_some(), opaque.is_some())?;
    Ok(Listener {
        name: Arc::clone(name),
        namespace: outbound.namespace.into(),
        service: outbound.service.into(),
        port: port("port", outbound.port)?,
        protocol,
        routes,
        opaque: opaque.map(Arc::new),
    })
}

fn check_protocol(protocol: Protocol, routes: bool, opaque: bool) -> Result<(), Invalid> {
    let (http, other) = match protocol {
        Protocol::Detect => (true, true),
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => (true, false),
        Protocol::Tcp | Protocol::Tls => (false, true),
    };
    if http != routes {
        let text = format!("does not fit the protocol {protocol:?}");
        return invalid("filter_chains", text);
    }
    if other != opaque {
        let text = format!("does not fit the protocol {protocol:?}");
        return invalid("default_filter_chain", text);
    }
    Ok(())
}

fn only_filter(chain: envoy::FilterChain) -> Result<xds_api::google::protobuf::Any, Invalid> {
    foreign::check(&chain)?;
    let mut filters = chain.filters.into_iter();
    let (Some(filter), None) = (filters.next(), filters.next()) else {
        return invalid("filters", "must hold exactly one");
    };
    match filter.config_type {
        Some(envoy::filter::ConfigType::TypedConfig(any)) => Ok(any),
        Some(envoy::filter::ConfigType::ConfigDiscovery(_)) | None => {
            invalid("filters[0].typed_config", "is missing")
        }
    }
}

fn routes_of(chain: envoy::FilterChain) -> Result<Arc<str>, Invalid> {
    let filter = only_filter(chain)?;
    let manager: http::HttpConnectionManager = unpack(filter).within("filters[0].typed_config")?;
    foreign::check(&manager).within("filters[0].typed_config")?;
    let specifier = present("route_specifier", manager.route_specifier)?;
    let http::http_connection_manager::RouteSpecifier::Rds(rds) = specifier else {
        return invalid("route_config", "routes come by `rds`");
    };
    check_ads("rds.config_source", rds.config_source.as_ref())?;
    not_empty("rds.route_config_name", &rds.route_config_name)?;
    Ok(rds.route_config_name.into())
}

fn backends_of(chain: envoy::FilterChain) -> Result<Backends, Invalid> {
    use tcp::tcp_proxy::ClusterSpecifier;
    let filter = only_filter(chain)?;
    let proxy: tcp::TcpProxy = unpack(filter).within("filters[0].typed_config")?;
    let weighted = match present("cluster_specifier", proxy.cluster_specifier)? {
        ClusterSpecifier::Cluster(cluster) => {
            not_empty("cluster", &cluster)?;
            return Ok(Backends::single(cluster));
        }
        ClusterSpecifier::WeightedClusters(weighted) => weighted.clusters,
    };
    let backends = weighted.into_iter().map(|one| Backend {
        cluster: one.name.into(),
        weight: one.weight,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
    });
    check_weights(Backends::new(backends.collect())).within("weighted_clusters")
}

/// There must be something to choose from.
pub(super) fn check_weights(backends: Backends) -> Result<Backends, Invalid> {
    for (index, backend) in backends.backends.iter().enumerate() {
        not_empty("name", &backend.cluster).within_item("clusters", index)?;
    }
    if backends.total == 0 {
        return invalid("clusters", "must have a weight above zero");
    }
    Ok(backends)
}
