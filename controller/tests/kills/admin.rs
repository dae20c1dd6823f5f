//! The admin API of each controller, as an administrator calls it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use maille_controller::peer_ca::SERVER_NAME;
use maille_controller::tls::{self, Connector};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tonic::transport::{Channel, Endpoint};
use xds_api::maille::v1::admin_client::AdminClient;

/// Past the ten seconds that a controller gives a write.
pub const CALL_LIMIT: Duration = Duration::from_secs(15);
/// For answers made from the whole mesh, unoptimised and beside other tests.
pub const PATIENT_LIMIT: Duration = Duration::from_secs(90);
/// A whole mesh in one answer.
const LARGEST_ANSWER: usize = 512 << 20;

/// A client that connects when it is used, and again after a kill.
pub type Client = AdminClient<Channel>;

/// The administrator whom `init` made in `directory`.
pub fn connector(directory: &Path) -> anyhow::Result<Connector> {
    let read =
        |name: &str| std::fs::read(directory.join(name)).with_context(|| format!("reading {name}"));
    let certificates = |pem: &[u8]| -> anyhow::Result<Vec<CertificateDer<'static>>> {
        Ok(CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?)
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(&read("ca.crt")?)? {
        roots.add(root)?;
    }
    let key = PrivateKeyDer::from_pem_slice(&read("client.key")?)?;
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(tls::VERSIONS)?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&read("client.crt")?)?, key)?;
    config.alpn_protocols = vec![tls::ALPN_H2.to_vec()];
    Ok(Connector::new(
        Arc::new(config),
        ServerName::try_from(SERVER_NAME)?,
    ))
}

/// A client of the admin port at `address`, whose calls take no longer than `limit`.
pub fn client(connector: &Connector, address: &str, limit: Duration) -> anyhow::Result<Client> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .timeout(limit)
        .connect_with_connector_lazy(connector.clone());
    Ok(AdminClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
}
