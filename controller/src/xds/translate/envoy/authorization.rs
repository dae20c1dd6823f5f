//! ECDS: the rules of one port of a workload, as filters. They come by ECDS since a rule within a listener would leave live connections under the old
//! one. Denials and allowances are two filters, for a filter of Envoy has one action. Of an opaque connection they are asked when its first bytes arrive:
//! whom they deny then came in under older rules, since `callers` keeps out everybody else.

use std::sync::Arc;

use prost::Name as MessageName;
use xds_api::envoy::config::core::v3::{ExtensionConfigSource, TypedExtensionConfig};
use xds_api::envoy::config::listener::v3::{Filter, filter};
use xds_api::envoy::config::rbac::v3::Rbac;
use xds_api::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use xds_api::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use xds_api::google::protobuf::Any;
use xds_api::resource::Resource;

use super::super::any::pack;
use super::super::{Translated, rbac};
use super::{chain, registered};
use crate::model::{Mesh, Name};
use crate::xds::names::Authorization;

/// The two filters of a port.
pub(super) fn names(workload: &Name, port: u16, is_http: bool) -> [Authorization; 2] {
    [true, false].map(|denies| Authorization {
        workload: workload.clone(),
        port,
        is_http,
        denies,
    })
}

/// A filter of connections whose rules come by ECDS.
pub(super) fn network_filter(name: String) -> Filter {
    let source = ExtensionConfigSource {
        config_source: chain::ads(),
        type_urls: vec![NetworkRbac::type_url()],
        ..Default::default()
    };
    Filter {
        name,
        config_type: Some(filter::ConfigType::ConfigDiscovery(source)),
    }
}

/// A filter that lets nobody through.
pub(super) fn nobody(is_http: bool) -> Any {
    filter_of(is_http, Some(rbac::nobody()))
}

pub(super) fn translate(mesh: &Mesh, name: Arc<str>, half: &Authorization) -> Option<Translated> {
    registered(mesh, &half.workload)?.port(half.port)?;
    let extension = TypedExtensionConfig {
        name: name.to_string(),
        typed_config: Some(filter_of(half.is_http, rbac::half(mesh, half))),
    };
    Some(Translated::new(Resource::new(name, &extension), Vec::new()))
}

fn filter_of(is_http: bool, rules: Option<Rbac>) -> Any {
    if is_http {
        return pack(&HttpRbac { rules });
    }
    pack(&NetworkRbac {
        rules,
        stat_prefix: "authz".to_owned(),
    })
}
