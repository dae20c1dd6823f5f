//! Making and reading X.509 certificates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SigningKey,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate};

/// A certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Making or signing failed.
    #[error("cannot make the certificate for {subject}")]
    Make {
        /// Whose.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The bytes are no certificate.
    #[error("is no X.509 certificate: {0}")]
    Parse(String),
    /// The text is no PEM.
    #[error("is no PEM file with certificates: {0}")]
    Pem(String),
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signs intermediates (and, for the peer CA, leaves).
    Root,
    /// Signs leaves.
    Issuing,
    /// Proves an identity as client and server.
    Leaf,
}

/// The names in a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// For people: workload leaves have none, as SPIFFE wants it.
    pub common_name: String,
    /// The subject's organization and its unit, where they mean something (an administrator's role); may be empty.
    pub organization: String,
    /// See `organization`.
    pub unit: String,
    /// URI names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
}

/// From when until when, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// The first second.
    pub not_before: i64,
    /// The last.
    pub not_after: i64,
}

/// What others need to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The subject, as text.
    pub subject: String,
    /// The subject's organization; empty where it has none.
    pub organization: String,
    /// The organization's unit; empty where there is none.
    pub unit: String,
    /// URI names.
    pub uris: Vec<String>,
    /// Hex, without leading zeroes.
    pub serial: String,
    /// Validity.
    pub term: Term,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key_sha256: [u8; 32],
    /// SHA-256 of its DER.
    pub sha256: [u8; 32],
}

impl Facts {
    /// Its SPIFFE id: exactly one URI name, and that one a SPIFFE id (X.509-SVID, section 2).
    pub fn spiffe_id(&self) -> Option<&str> {
        match self.uris.as_slice() {
            [only] if only.starts_with("spiffe://") => Some(only),
            _ => None,
        }
    }
}

/// SHA-256.
pub fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

/// A random, positive 128-bit serial number: none is ever used twice, a restore from a backup included.
pub fn random_serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::random();
    // The highest bit would make the DER integer negative, and a zero first byte would vanish from it.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}

fn params(names: &Names, purpose: Purpose, term: Term) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.not_before = at(term.not_before).into();
    params.not_after = at(term.not_after).into();
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()));
    params.distinguished_name = DistinguishedName::new();
    for (kind, name) in [
        (DnType::CommonName, &names.common_name),
        (DnType::OrganizationName, &names.organization),
        (DnType::OrganizationalUnitName, &names.unit),
    ] {
        if !name.is_empty() {
            params.distinguished_name.push(kind, name.clone());
        }
    }
    for uri in &names.uris {
        params
            .subject_alt_names
            .push(SanType::URI(uri.as_str().try_into()?));
    }
    for name in &names.dns {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.as_str().try_into()?));
    }
    match purpose {
        Purpose::Root | Purpose::Issuing => {
            let reach = if purpose == Purpose::Root { 1 } else { 0 };
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(reach));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        Purpose::Leaf => {
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
        }
    }
    params.use_authority_key_identifier_extension = purpose != Purpose::Root;
    Ok(params)
}

fn at(unix_seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(unix_seconds.max(0).unsigned_abs())
}

/// A certificate that signs itself.
pub fn self_signed(
    names: &Names,
    term: Term,
    key: &impl SigningKey,
) -> Result<CertificateDer<'static>, CertificateError> {
    let made = params(names, Purpose::Root, term).and_then(|params| params.self_signed(key));
    made.map(|certificate| certificate.der().clone())
        .map_err(|source| failed(names, source))
}

/// A certificate for `public_key`, signed by the holder of `issuer_key`.
pub fn issue(
    names: &Names,
    purpose: Purpose,
    term: Term,
    public_key: &impl PublicKeyData,
    issuer: &CertificateDer<'_>,
    issuer_key: &impl SigningKey,
) -> Result<CertificateDer<'static>, CertificateError> {
    let make = || {
        let issuer = Issuer::from_ca_cert_der(issuer, issuer_key)?;
        params(names, purpose, term)?.signed_by(public_key, &issuer)
    };
    make()
        .map(|certificate| certificate.der().clone())
        .map_err(|source| failed(names, source))
}

fn failed(names: &Names, source: rcgen::Error) -> CertificateError {
    let subject = names.uris.first().unwrap_or(&names.common_name).clone();
    CertificateError::Make { subject, source }
}

/// Reads what others need to know of a certificate.
pub fn parse(der: &[u8]) -> Result<Facts, CertificateError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|e| CertificateError::Parse(e.to_string()))?;
    if !rest.is_empty() {
        return Err(CertificateError::Parse(format!(
            "{} bytes follow it",
            rest.len()
        )));
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|e| CertificateError::Parse(e.to_string()))?;
    let mut uris = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        if let GeneralName::URI(uri) = name {
            uris.push((*uri).to_owned());
        }
    }
    let subject = certificate.subject();
    let text = |attribute: Option<&AttributeTypeAndValue<'_>>| {
        let text = attribute.and_then(|attribute| attribute.as_str().ok());
        text.unwrap_or_default().to_owned()
    };
    Ok(Facts {
        subject: subject.to_string(),
        organization: text(subject.iter_organization().next()),
        unit: text(subject.iter_organizational_unit().next()),
        uris,
        serial: format!("{:x}", certificate.serial),
        term: Term {
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        },
        is_ca: certificate.is_ca(),
        key_sha256: fingerprint(certificate.public_key().raw),
        sha256: fingerprint(der),
    })
}

/// All certificates of a PEM text, at least one.
pub fn parse_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(CertificateError::Pem("it holds none".to_owned())),
        Err(failure) => Err(CertificateError::Pem(failure.to_string())),
    }
}

/// Certificates as one PEM text.
pub fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    use base64::Engine;
    let mut pem = String::new();
    for certificate in certificates {
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in encoded.as_bytes().chunks(64) {
            pem.push_str(
                std::str::from_utf8(line).expect("base64 is ASCII, so every cut of it is UTF-8"),
            );
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pki::P256Key;

    #[test]
    fn a_leaf_carries_its_one_uri_and_its_term_and_survives_pem() {
        let (root_key, leaf_key) = (P256Key::generate().unwrap(), P256Key::generate().unwrap());
        let term = Term {
            not_before: 1_800_000_000,
            not_after: 1_800_086_400,
        };
        let root_names = Names {
            common_name: "root".to_owned(),
            ..Names::default()
        };
        let root = self_signed(&root_names, term, &root_key).unwrap();
        let names = Names {
            uris: vec!["spiffe://mesh.local/ns/a/sa/b".to_owned()],
            ..Names::default()
        };
        let leaf = issue(&names, Purpose::Leaf, term, &leaf_key, &root, &root_key).unwrap();

        let facts = parse(&leaf).unwrap();
        assert_eq!(Some("spiffe://mesh.local/ns/a/sa/b"), facts.spiffe_id());
        assert_eq!(term, facts.term);
        assert_eq!(32, facts.serial.len());
        assert_eq!(fingerprint(leaf_key.public_info()), facts.key_sha256);
        assert!(!facts.is_ca && parse(&root).unwrap().is_ca);
        assert_eq!(
            vec![leaf.clone(), root.clone()],
            parse_pem(to_pem(&[leaf, root]).as_bytes()).unwrap()
        );
    }
}
