//! The certificate in force and the roots, as far as they are public.

use crate::identity::Credentials;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Everything but the key.
pub(super) fn certificates(credentials: Option<&Credentials>) -> Value {
    let Some(current) = credentials else {
        return Value::Null;
    };
    let time = |seconds| {
        Timestamp::from_second(seconds)
            .map(|time| time.to_string())
            .ok()
    };
    json!({
        "identity": *current.identity,
        "trustDomain": *current.trust_domain,
        "notBefore": time(current.not_before),
        "notAfter": time(current.not_after),
        "renewAt": time(current.renew_at),
        "chain": current.chain.iter().map(|der| one(der)).collect::<Vec<_>>(),
        "roots": current.roots.iter().map(|der| one(der)).collect::<Vec<_>>(),
    })
}

fn one(der: &[u8]) -> Value {
    let fingerprint = hex::encode(digest(&SHA256, der));
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return json!({ "sha256": fingerprint, "problem": "cannot be read" });
    };
    let time = |time: i64| {
        Timestamp::from_second(time)
            .map(|time| time.to_string())
            .ok()
    };
    let validity = parsed.validity();
    json!({
        "sha256": fingerprint,
        "subject": parsed.subject().to_string(),
        "issuer": parsed.issuer().to_string(),
        "serial": parsed.raw_serial_as_string(),
        "notBefore": time(validity.not_before.timestamp()),
        "notAfter": time(validity.not_after.timestamp()),
    })
}
