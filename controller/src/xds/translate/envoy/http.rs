//! HTTP connections of both directions.

use std::time::Duration;

use xds_api::envoy::config::core::v3::{ExtensionConfigSource, Http2ProtocolOptions};
use xds_api::envoy::config::listener::v3::Filter;
use xds_api::envoy::config::route::v3::route::Action;
use xds_api::envoy::config::route::v3::route_action::ClusterSpecifier;
use xds_api::envoy::config::route::v3::route_match::PathSpecifier;
use xds_api::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use xds_api::envoy::extensions::filters::http::router::v3::Router;
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, RouteSpecifier, ServerHeaderTransformation,
    SetCurrentClientCertDetails, UpgradeConfig,
};
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_filter,
};

use super::super::any::pack;
use super::chain::{ads, filter, no, time, yes};
use prost::Name;
use xds_api::envoy::extensions::filters::http::rbac::v3::Rbac;

const NAME: &str = "envoy.filters.network.http_connection_manager";

/// A client's side: routes by RDS. What the application says of its caller's certificate is taken away.
pub(super) fn outgoing(target: &str) -> Filter {
    let rds = Rds {
        config_source: ads(),
        route_config_name: target.to_owned(),
    };
    let manager = manager(target, RouteSpecifier::Rds(rds), Vec::new());
    filter(NAME, &manager)
}

/// A server's side: all requests go to the application, once the rules allow it. The peer's identity goes with them.
pub(super) fn incoming(stat_prefix: &str, cluster: &str, rules: Vec<HttpFilter>) -> Filter {
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
            // The caller's side keeps the time.
            timeout: Some(time(Duration::ZERO)),
            ..Default::default()
        })),
        ..Default::default()
    };
    let routes = RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: cluster.to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
        }],
    };
    let mut manager = manager(stat_prefix, RouteSpecifier::RouteConfig(routes), rules);
    manager.forward_client_cert_details = ForwardClientCertDetails::SanitizeSet as i32;
    manager.set_current_client_cert_details = Some(SetCurrentClientCertDetails { uri: true });
    // Rules on paths are about the path that the application understands.
    manager.normalize_path = yes();
    manager.merge_slashes = true;
    filter(NAME, &manager)
}

/// A filter whose rules come by ECDS.
pub(super) fn rules(name: String) -> HttpFilter {
    HttpFilter {
        name,
        config_type: Some(http_filter::ConfigType::ConfigDiscovery(
            ExtensionConfigSource {
                config_source: ads(),
                type_urls: vec![Rbac::type_url()],
                ..Default::default()
            },
        )),
    }
}

fn manager(
    stat_prefix: &str,
    routes: RouteSpecifier,
    mut filters: Vec<HttpFilter>,
) -> HttpConnectionManager {
    let router = Router {
        suppress_envoy_headers: true,
    };
    filters.push(HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack(&router))),
    });
    HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        route_specifier: Some(routes),
        http_filters: filters,
        http2_protocol_options: Some(Http2ProtocolOptions {
            // Without it one WebSocket over HTTP/2 ends the whole shared connection.
            allow_connect: true,
        }),
        server_header_transformation: ServerHeaderTransformation::PassThrough as i32,
        // Streams may be silent for as long as they like; the mesh has no opinion on that.
        stream_idle_timeout: Some(time(Duration::ZERO)),
        generate_request_id: no(),
        skip_xff_append: true,
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
        }],
        ..Default::default()
    }
}
