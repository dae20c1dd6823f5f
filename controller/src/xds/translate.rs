//! From the mesh to resources: one folder a dialect, over what the dialects share.

mod action;
mod any;
mod calls;
mod dial;
mod limits;
mod matching;
mod nearness;
mod pem;
mod policy;
mod protocol;
mod rbac;
mod rewrite;
mod rules;
mod workload;

mod route;

pub(crate) mod envoy;
pub(crate) mod grpc;
pub(crate) mod native;

use std::sync::Arc;

use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::names::ServicePort;
use super::scope::Dialect;
use crate::model::Mesh;
pub(crate) use workload::{identity, locality};

/// The routes of a port for the clients of a namespace that has routes of its own to the service.
pub(crate) fn consumer_routes(
    dialect: Dialect,
    mesh: &Mesh,
    name: Arc<str>,
    port: &ServicePort,
    client: &str,
) -> Option<Translated> {
    match dialect {
        Dialect::Native | Dialect::Envoy => {
            route::translate(dialect, mesh, name, port, Some(client))
        }
        Dialect::Grpc => grpc::route::translate(mesh, name, port, Some(client)),
    }
}

/// The endpoints of a port as clients of a locality see them. The native proxy finds out by itself what is near.
pub(crate) fn near_endpoints(
    dialect: Dialect,
    mesh: &Mesh,
    name: Arc<str>,
    port: &ServicePort,
    here: &str,
) -> Option<Translated> {
    match dialect {
        Dialect::Native => None,
        Dialect::Envoy => envoy::endpoints::translate(mesh, name, port, here),
        Dialect::Grpc => grpc::endpoints::translate(mesh, name, port, here),
    }
}

/// A resource that another one makes the client need.
pub(crate) type Link = (TypeUrl, Arc<str>);

/// A resource and what it refers to.
#[derive(Debug, Clone)]
pub(crate) struct Translated {
    pub(crate) resource: Arc<Resource>,
    pub(crate) links: Arc<[Link]>,
}

impl Translated {
    pub(crate) fn new(resource: Resource, links: Vec<Link>) -> Self {
        Self {
            resource: Arc::new(resource),
            links: links.into(),
        }
    }
}
