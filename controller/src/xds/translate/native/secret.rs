//! SDS: the trust roots as PEM.

use std::fmt::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use xds_api::envoy::config::core::v3::DataSource;
use xds_api::envoy::config::core::v3::data_source::Specifier;
use xds_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, secret,
};
use xds_api::resource::Resource;

use super::super::Translated;
use crate::model::Mesh;
use crate::xds::names;

/// Characters a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

/// `roots/<trust domain>`, once there is a root.
pub(super) fn translate(mesh: &Mesh, name: Arc<str>) -> Option<Translated> {
    if name != names::roots(mesh.trust_domain()) || mesh.roots().is_empty() {
        return None;
    }
    let pem: String = mesh
        .roots()
        .iter()
        .map(|root| pem(&root.certificate))
        .collect();
    let trusted = DataSource {
        specifier: Some(Specifier::InlineBytes(pem.into())),
    };
    let context = CertificateValidationContext {
        trusted_ca: Some(trusted),
    };
    let secret = Secret {
        name: name.to_string(),
        r#type: Some(secret::Type::ValidationContext(context)),
    };
    Some(Translated::new(Resource::new(name, &secret), Vec::new()))
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(PEM_LINE) {
        let line =
            std::str::from_utf8(line).expect("base64 is ASCII, so any cut is between characters");
        writeln!(pem, "{line}").expect("writing to a String does not fail");
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
