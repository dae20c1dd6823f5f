//! What is done with requests, on both sides: gRPC takes no connection manager without a router at the end.

use xds_api::envoy::extensions::filters::http::router::v3::Router;
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use xds_api::google::protobuf::Any;

use super::super::any::pack;

/// A filter with its configuration.
pub(super) fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
    }
}

/// Requests pass the filters, then the routes apply.
pub(super) fn manager(
    routes: RouteSpecifier,
    mut filters: Vec<HttpFilter>,
) -> HttpConnectionManager {
    let router = pack(&Router::default());
    filters.push(filter("envoy.filters.http.router", router));
    HttpConnectionManager {
        route_specifier: Some(routes),
        http_filters: filters,
        ..Default::default()
    }
}
