//! The admin directory: the certificate by which an admin is known, and the CA that controllers must prove.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::failure::{Exit, Failure, Outcome};

/// What an admin proves itself with.
#[derive(Clone, Debug)]
pub struct Credentials {
    tls: Arc<ClientConfig>,
}

impl Credentials {
    /// Reads `client.crt`, `client.key`, `ca.crt` and `endpoints` (one `host:port` a line, `#` starts a comment).
    ///
    /// # Errors
    /// A file is missing or is not what its name says.
    pub fn load(directory: &Path) -> Outcome<(Credentials, Vec<String>)> {
        let chain = certificates(&directory.join("client.crt"))?;
        let roots = certificates(&directory.join("ca.crt"))?;
        let key_file = directory.join("client.key");
        let key = PrivateKeyDer::from_pem_slice(&read(&key_file)?)
            .map_err(|error| damaged(&key_file).caused_by(error))?;
        let endpoints = String::from_utf8_lossy(&read(&directory.join("endpoints"))?)
            .lines()
            .map(|line| {
                line.split('#')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_string()
            })
            .filter(|line| !line.is_empty())
            .collect();
        let tls = config(chain, key, roots).map_err(|error| damaged(directory).caused_by(error))?;
        Ok((Credentials { tls: Arc::new(tls) }, endpoints))
    }

    pub(super) fn tls(&self) -> &Arc<ClientConfig> {
        &self.tls
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Vec<CertificateDer<'static>>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root)?;
    }
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(store)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(file: &Path) -> Outcome<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| damaged(file).caused_by(error))?;
    if found.is_empty() {
        Err(damaged(file))
    } else {
        Ok(found)
    }
}

fn read(file: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(file).map_err(|error| {
        Failure::new(Exit::NotFound, format!("read {}", file.display()))
            .caused_by(error)
            .next("`maille-controller init` writes the admin directory: copy it here and pass --admin DIR, or pass --socket PATH on a controller's host")
    })
}

fn damaged(file: &Path) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("{} is damaged or not PEM", file.display()),
    )
    .next("copy it again from where `maille-controller init` wrote it")
}
