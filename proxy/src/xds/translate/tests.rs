//! Every field of the dialect: what it becomes, and what is said about a value that is not understood.
#![allow(clippy::unwrap_used)]

mod clusters;
mod endpoint_lists;
mod listeners;
mod policies;
mod route_tables;

use super::{Value, translate};
use crate::snapshot::{
    Action, Balancing, HashKey, Health, Mtls, PathMatch, PathRewrite, Pattern, Protocol,
    RedirectPath, RouteAction, TextTest,
};
use crate::xds::tests::*;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use xds_api::envoy::config::cluster::v3 as cds;
use xds_api::envoy::config::core::v3 as base;
use xds_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_api::envoy::config::listener::v3::Listener;
use xds_api::envoy::config::route::v3 as rds;
use xds_api::envoy::r#type::matcher::v3 as matcher;
use xds_api::envoy::r#type::v3::Percent;
use xds_api::google::protobuf::UInt32Value;
use xds_api::maille::v1;
use xds_api::type_url::Served;

const PORT: &str = "shop/api:80";

fn read<M: Served>(name: &str, message: &M) -> Result<Value, String> {
    let body = Bytes::from(message.encode_to_vec());
    translate(M::TYPE, &Arc::from(name), &body).map_err(|invalid| invalid.to_string())
}

/// The message must be refused with this text.
fn refuse<M: Served>(name: &str, message: &M, expected: &str) {
    assert_eq!(read(name, message).unwrap_err(), expected);
}

#[test]
fn what_a_later_version_would_say_is_refused_and_not_dropped() {
    let mut body = cluster(PORT).encode_to_vec();
    // Field 500, the number 1.
    body.extend_from_slice(&[0xa0, 0x1f, 0x01]);
    let name: Arc<str> = PORT.into();
    let kind = xds_api::type_url::TypeUrl::Cluster;
    let refused = translate(kind, &name, &body.into())
        .unwrap_err()
        .to_string();
    let expected =
        "Cluster has fields that this version does not know (3 bytes); upgrade the proxy";
    assert_eq!(refused, expected);
    let refused = translate(kind, &name, &Bytes::from_static(&[0xff])).unwrap_err();
    assert!(refused.to_string().starts_with("the bytes are no Cluster"));
}

#[test]
fn names_must_fit_their_type() {
    refuse(
        "x/y",
        &Listener::default(),
        "a listener is named `in/…`, `host/…` or `out/…`",
    );
    refuse(
        "other",
        &cluster(PORT),
        "name: \"shop/api:80\" differs from the resource's name \"other\"",
    );
    refuse(
        "keys",
        &secret("keys", ""),
        "name: a secret is named `roots/<trust domain>`",
    );
}

#[test]
fn roots_are_read_from_pem() {
    let root = crate::fakes::Authority::new().root;
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &root);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n");
    let twice = format!("{pem}{pem}");
    let Value::Roots(found) = read("roots/mesh.test", &secret("roots/mesh.test", &twice)).unwrap()
    else {
        panic!("no roots");
    };
    assert_eq!(&*found.trust_domain, "mesh.test");
    assert_eq!(found.certificates, [root.to_vec(), root.to_vec()]);
    let field = "validation_context.trusted_ca.inline_bytes";
    refuse(
        "roots/x",
        &secret("roots/x", ""),
        &format!("{field}: holds no certificate"),
    );
}
