//! TLS of the applications' own: the mesh carries it and has no part in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use crate::failure::{Failure, Outcome};

/// The name in the applications' certificate. The mesh knows no such name.
const NAME: &str = "application.example";

/// A certificate that every application of a run serves with, and its key: written into one file, by which clients know it too.
pub fn certificate() -> Outcome<String> {
    let made = rcgen::generate_simple_self_signed([NAME.to_string()]);
    let made = made
        .map_err(|error| Failure::failed("make the applications' certificate").caused_by(error))?;
    Ok(made.cert.pem() + &made.signing_key.serialize_pem())
}

/// The serving side.
pub(super) fn acceptor(file: &Path) -> Outcome<TlsAcceptor> {
    let (chain, key) = (read_chain(file)?, read_key(file)?);
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let config = config.map_err(|error| unusable(file, error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What a client trusts: the one certificate.
pub(super) fn trust(file: &Path) -> Outcome<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(file)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(file, error))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(file, error))?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// The calling side.
pub(super) async fn connect(
    config: Arc<ClientConfig>,
    stream: TcpStream,
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(NAME).map_err(std::io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

fn read_chain(file: &Path) -> Outcome<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file);
    let chain = read.and_then(Iterator::collect);
    chain.map_err(|error| unusable(file, error))
}

fn read_key(file: &Path) -> Outcome<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| unusable(file, error))
}

fn unusable(file: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let file: PathBuf = file.to_path_buf();
    Failure::failed(format!("use the certificate in {}", file.display())).caused_by(error)
}
