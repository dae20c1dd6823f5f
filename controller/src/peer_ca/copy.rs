//! A secrets directory on its way to another controller's host.

use std::path::Path;

use bytes::Bytes;
use xds_api::maille::v1::SecretsResponse;

use super::init::{InitError, check_free, write};
use super::names;
use super::secrets::{Secrets, SecretsError, read, read_secret, text};

/// All that another controller needs of `directory`.
pub fn copy_of(directory: &Path) -> Result<SecretsResponse, SecretsError> {
    // Nothing damaged is passed on.
    Secrets::load(directory)?;
    let secret =
        |name: &str| read_secret(&directory.join(name)).map(|bytes| Bytes::copy_from_slice(&bytes));
    Ok(SecretsResponse {
        cluster_id: text(&directory.join(names::CLUSTER_ID))?,
        trust_domain: text(&directory.join(names::TRUST_DOMAIN))?,
        peer_ca_certificate: read(&directory.join(names::CA_CERTIFICATE))?.into(),
        peer_ca_key: secret(names::CA_KEY)?,
        key_encryption_key: secret(names::KEK)?,
    })
}

/// Makes `directory` from what another controller handed out; all of it, or nothing.
pub fn write_copy(directory: &Path, copy: &SecretsResponse) -> Result<(), InitError> {
    check_free(directory)?;
    write(
        directory,
        &[
            (names::CA_CERTIFICATE, 0o444, &copy.peer_ca_certificate[..]),
            (names::CA_KEY, 0o400, &copy.peer_ca_key[..]),
            (names::KEK, 0o400, &copy.key_encryption_key[..]),
            (
                names::CLUSTER_ID,
                0o444,
                format!("{}\n", copy.cluster_id).as_bytes(),
            ),
            (
                names::TRUST_DOMAIN,
                0o444,
                format!("{}\n", copy.trust_domain).as_bytes(),
            ),
        ],
    )
}
