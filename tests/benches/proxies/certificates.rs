//! Certificates for the pairs that are not Maille's: one authority, one leaf for both sides.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    SanType,
};

/// Writes `ca.pem`, `cert.pem` and `key.pem` into `directory`.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut ca = CertificateParams::new(Vec::new())?;
    // Not the default name: a leaf of the same name as its issuer looks self-signed, and Envoy refuses it.
    ca.distinguished_name
        .push(DnType::CommonName, "bench authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut leaf = CertificateParams::new(vec!["bench.maille".to_owned()])?;
    leaf.subject_alt_names.push(SanType::URI(
        "spiffe://bench.maille/ns/bench/sa/bench".try_into()?,
    ));
    let certificate = leaf.signed_by(&key, &issuer)?;

    std::fs::write(directory.join("ca.pem"), ca_certificate.pem())?;
    std::fs::write(directory.join("cert.pem"), certificate.pem())?;
    std::fs::write(directory.join("key.pem"), key.serialize_pem())?;
    Ok(())
}
