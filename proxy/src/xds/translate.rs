//! From the native dialect's messages to the proxy's own types. Strict: what is not understood is refused by name, so that
//! the server hears of it in a NACK.

mod cluster;
mod endpoints;
mod inbound;
mod listener;
mod route;
mod secret;
mod strict;
#[cfg(test)]
mod tests;

pub(super) use strict::Invalid;

use crate::snapshot::{Cluster, Endpoints, Host, Inbound, Listener, Roots, Routes};
use bytes::Bytes;
use std::sync::Arc;
use xds_api::type_url::TypeUrl;

/// One resource in the proxy's own terms.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Inbound(Arc<Inbound>),
    Host(Arc<Host>),
    Listener(Arc<Listener>),
    Routes(Arc<Routes>),
    Cluster(Arc<Cluster>),
    Endpoints(Arc<Endpoints>),
    Roots(Arc<Roots>),
}

/// Reads one resource.
pub(super) fn translate(kind: TypeUrl, name: &Arc<str>, body: &Bytes) -> Result<Value, Invalid> {
    let body = body.clone();
    match kind {
        TypeUrl::Listener if name.starts_with("in/") => {
            inbound::translate(name, body).map(|value| Value::Inbound(value.into()))
        }
        TypeUrl::Listener if name.starts_with("host/") => {
            listener::host(name, body).map(|value| Value::Host(value.into()))
        }
        TypeUrl::Listener if name.starts_with("out/") => {
            listener::outbound(name, body).map(|value| Value::Listener(value.into()))
        }
        TypeUrl::Listener => Err(Invalid::new(
            "a listener is named `in/…`, `host/…` or `out/…`",
        )),
        TypeUrl::Route => route::translate(name, body).map(|value| Value::Routes(value.into())),
        TypeUrl::Cluster => {
            cluster::translate(name, body).map(|value| Value::Cluster(value.into()))
        }
        TypeUrl::Endpoints => {
            endpoints::translate(name, body).map(|value| Value::Endpoints(value.into()))
        }
        TypeUrl::Secret => secret::translate(name, body).map(|value| Value::Roots(value.into())),
        TypeUrl::Extension => Err(Invalid::new("the native dialect has no extensions")),
    }
}
