//! Keys and certificates as values: made by rcgen, parsed by x509-parser, signed by aws-lc.
//!
//! Absent: who may have which certificate (`peer_ca`, `identity`), and TLS itself (`tls`).

mod certificate;
mod key;

pub use certificate::{
    CertificateError, Facts, Names, Purpose, Term, fingerprint, issue, parse, parse_pem,
    random_serial, self_signed, to_pem,
};
pub use key::{KeyError, P256Key};
