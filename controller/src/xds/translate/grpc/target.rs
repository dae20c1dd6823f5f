//! `<service>.<namespace>.mesh:<port>`: what a client begins with. Its routes come by RDS.

use std::sync::Arc;

use xds_api::envoy::config::listener::v3::{ApiListener, Listener};
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::Rds;
use xds_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::super::Translated;
use super::super::any::{ads, pack};
use super::super::protocol::{may_be_http, protocol_of};
use super::manager::manager;
use crate::model::Mesh;
use crate::xds::names::ServicePort;

/// Nothing where the port is declared to be something else than HTTP.
pub(super) fn translate(mesh: &Mesh, name: Arc<str>, port: &ServicePort) -> Option<Translated> {
    if !may_be_http(protocol_of(mesh, port)?) {
        return None;
    }
    let routes = port.resource();
    let rds = Rds {
        config_source: ads(),
        route_config_name: routes.to_string(),
    };
    let listener = Listener {
        name: name.to_string(),
        api_listener: Some(ApiListener {
            api_listener: Some(pack(&manager(RouteSpecifier::Rds(rds), Vec::new()))),
        }),
        ..Default::default()
    };
    let links = vec![(TypeUrl::Route, routes)];
    Some(Translated::new(Resource::new(name, &listener), links))
}
