//! SDS: whom to trust. `roots/<trust domain>` for those who call us, `peers/<namespace>/<service>` for those whom we call: the roots and the
//! identities behind the service, together, so that a service account may change without a cluster being drained. Who may call a port is `callers`.

use std::sync::Arc;

use xds_api::envoy::config::core::v3::DataSource;
use xds_api::envoy::config::core::v3::data_source::Specifier;
use xds_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SubjectAltNameMatcher, secret,
};
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_api::resource::Resource;

use super::super::dial::identities;
use super::super::{Translated, pem};
use super::tls::uri;
use crate::model::{Mesh, Name};
use crate::xds::names;

pub(super) fn translate(mesh: &Mesh, name: Arc<str>) -> Option<Translated> {
    if name == names::roots(mesh.trust_domain()) {
        return context(mesh, name, Vec::new());
    }
    let (namespace, service) = name.strip_prefix("peers/")?.split_once('/')?;
    let service = Name::new(namespace, service);
    let spec = &mesh.services().get(&service)?.object.spec;
    let endpoints = spec
        .ports
        .iter()
        .flat_map(|port| mesh.endpoints(&service, port.port));
    let exact = |identity| uri(MatchPattern::Exact(identity));
    let expected = identities(mesh, endpoints).into_iter().map(exact);
    context(mesh, name, expected.collect())
}

/// The roots, and names one of which a certificate must have; none means any.
pub(super) fn context(
    mesh: &Mesh,
    name: Arc<str>,
    names: Vec<SubjectAltNameMatcher>,
) -> Option<Translated> {
    if mesh.roots().is_empty() {
        return None;
    }
    let trusted = DataSource {
        specifier: Some(Specifier::InlineBytes(pem::roots(mesh).into())),
    };
    let context = CertificateValidationContext {
        trusted_ca: Some(trusted),
        match_typed_subject_alt_names: names,
        ..Default::default()
    };
    let secret = Secret {
        name: name.to_string(),
        r#type: Some(secret::Type::ValidationContext(context)),
    };
    Some(Translated::new(Resource::new(name, &secret), Vec::new()))
}
