//! Trust roots.

use super::foreign;
use super::strict::{Invalid, Within, check_name, decode, invalid, present};
use crate::snapshot::Roots;
use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;
use xds_api::envoy::config::core::v3::data_source::Specifier;
use xds_api::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};

pub(super) fn translate(name: &Arc<str>, body: Bytes) -> Result<Roots, Invalid> {
    let message: Secret = decode(body)?;
    check_name("name", &message.name, name)?;
    let Some(trust_domain) = name.strip_prefix("roots/") else {
        return invalid("name", "a secret is named `roots/<trust domain>`");
    };
    let secret::Type::ValidationContext(context) = present("validation_context", message.r#type)?
    else {
        return invalid("tls_certificate", "keys do not come from the control plane");
    };
    foreign::check(&context).within("validation_context")?;
    let field = "validation_context.trusted_ca.inline_bytes";
    let source = context.trusted_ca.and_then(|source| source.specifier);
    let Specifier::InlineBytes(pem) = present(field, source)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(Roots {
            trust_domain: trust_domain.into(),
            certificates,
        }),
        Ok(_) => invalid(field, "holds no certificate"),
        Err(error) => invalid(field, format!("is no PEM: {error}")),
    }
}
