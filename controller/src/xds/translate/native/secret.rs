//! SDS: the trust roots as PEM.

use std::sync::Arc;

use xds_api::envoy::config::core::v3::DataSource;
use xds_api::envoy::config::core::v3::data_source::Specifier;
use xds_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, secret,
};
use xds_api::resource::Resource;

use super::super::{Translated, pem};
use crate::model::Mesh;
use crate::xds::names;

/// `roots/<trust domain>`, once there is a root.
pub(super) fn translate(mesh: &Mesh, name: Arc<str>) -> Option<Translated> {
    if name != names::roots(mesh.trust_domain()) || mesh.roots().is_empty() {
        return None;
    }
    let trusted = DataSource {
        specifier: Some(Specifier::InlineBytes(pem::roots(mesh).into())),
    };
    let context = CertificateValidationContext {
        trusted_ca: Some(trusted),
        ..Default::default()
    };
    let secret = Secret {
        name: name.to_string(),
        r#type: Some(secret::Type::ValidationContext(context)),
    };
    Some(Translated::new(Resource::new(name, &secret), Vec::new()))
}
