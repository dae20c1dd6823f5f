//! The own certificate in the forms in which programs take it: PEM, and a resource of SDS.

use crate::identity::Credentials;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use std::fmt::Write;
use xds_api::envoy::config::core::v3::DataSource;
use xds_api::envoy::config::core::v3::data_source::Specifier;
use xds_api::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
use xds_api::resource::Resource;
use zeroize::Zeroizing;

/// The one secret that is served.
pub(super) const OWN: &str = "own";
/// Characters in a line (RFC 7468).
const LINE: usize = 64;

/// The leaf first, then the issuing certificate.
pub(super) fn chain(credentials: &Credentials) -> String {
    certificates(&credentials.chain)
}

/// The active root first.
pub(super) fn roots(credentials: &Credentials) -> String {
    certificates(&credentials.roots)
}

/// PKCS#8.
pub(super) fn key(credentials: &Credentials) -> Zeroizing<String> {
    Zeroizing::new(pem("PRIVATE KEY", credentials.key().secret_der()))
}

/// What SDS says of it. Its version is the hash of its bytes.
pub(super) fn resource(credentials: &Credentials) -> Resource {
    let inline = |pem: String| DataSource {
        specifier: Some(Specifier::InlineBytes(pem.into())),
    };
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(chain(credentials))),
        private_key: Some(inline(key(credentials).to_string())),
    };
    let secret = Secret {
        name: OWN.to_owned(),
        r#type: Some(secret::Type::TlsCertificate(certificate)),
    };
    Resource::new(OWN.into(), &secret)
}

fn certificates(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|der| pem("CERTIFICATE", der)).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    // Its final size, so that a key leaves no copy behind where the text has grown.
    let mut text =
        String::with_capacity(encoded.len() + encoded.len() / LINE + 2 * label.len() + 40);
    let mut rest = encoded.as_str();
    // Writing to a String does not fail.
    writeln!(text, "-----BEGIN {label}-----").ok();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        writeln!(text, "{line}").ok();
        rest = after;
    }
    writeln!(text, "-----END {label}-----").ok();
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fakes::{Authority, spiffe};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn what_is_written_as_pem_reads_as_what_it_was() {
        let credentials = Authority::new().credentials(&spiffe("shop", "web"));
        let read = |pem: &str| -> Vec<CertificateDer<'static>> {
            let all = CertificateDer::pem_slice_iter(pem.as_bytes());
            all.map(Result::unwrap).collect()
        };
        assert_eq!(read(&chain(&credentials)), credentials.chain);
        assert_eq!(read(&roots(&credentials)), credentials.roots);
        let found = PrivateKeyDer::from_pem_slice(key(&credentials).as_bytes()).unwrap();
        assert_eq!(found, credentials.key());
        assert!(chain(&credentials).lines().all(|line| line.len() <= LINE));
    }
}
