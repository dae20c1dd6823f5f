//! The trust roots as PEM.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::model::Mesh;

/// Characters a line of PEM (RFC 7468).
const LINE: usize = 64;

/// Every root, one after the other; empty where there is none.
pub(in crate::xds) fn roots(mesh: &Mesh) -> String {
    let roots = mesh.roots().iter();
    roots.map(|root| certificate(&root.certificate)).collect()
}

fn certificate(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(LINE) {
        let line =
            std::str::from_utf8(line).expect("base64 is ASCII, so any cut is between characters");
        writeln!(pem, "{line}").expect("writing to a String does not fail");
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
