//! A controller's own peer certificate: made from the peer CA, good for a day, renewed while everything runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::{ClientConfig, ServerConfig};
use tracing::{debug, warn};

use super::secrets::{Secrets, SecretsError};
use super::verify::{Accepted, PeerIdentity, PeerVerifier};
use crate::pki::{self, Names, P256Key, Purpose, Term};
use crate::supervise::Stage;
use crate::tls::{self, ALPN_H2, RotatingCertificate};

/// The DNS name in every peer certificate: what peers and the CLI expect, whatever address they dialled.
pub const SERVER_NAME: &str = "maille-controller";
/// A peer certificate's life. A stolen host is out of the cluster after a day.
const LIFETIME: i64 = 24 * 3600;
/// Clocks differ.
const BACKDATE: i64 = 300;
/// How often the certificate is made anew and the secrets are read again: far below the lifetime, so that many failures in
/// a row (a secret store that is away) hurt nobody.
const RENEW_EVERY: Duration = Duration::from_secs(3600);

/// The two TLS configurations between controllers. Cheap to clone; both renew by themselves.
#[derive(Debug, Clone)]
pub struct PeerTls {
    /// For the peer port: demands a certificate of a controller of this cluster.
    pub server: Arc<ServerConfig>,
    /// For calls to peers: expects `SERVER_NAME` and a controller of this cluster.
    pub client: Arc<ClientConfig>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    identity: PeerIdentity,
    certificate: Arc<RotatingCertificate>,
    peers: Arc<PeerVerifier>,
    admins: Arc<PeerVerifier>,
}

impl PeerTls {
    /// Makes this controller's first certificate. `directory` is the secrets directory, read again at each renewal;
    /// `data_directory_id` binds the certificate to the data directory.
    pub fn new(
        secrets: &Secrets,
        directory: &Path,
        name: &str,
        data_directory_id: &str,
    ) -> Result<Self, SecretsError> {
        let identity = PeerIdentity {
            cluster_id: secrets.cluster_id().to_owned(),
            name: name.to_owned(),
            directory: data_directory_id.to_owned(),
        };
        let accepted = Accepted::Peers(identity.cluster_id.clone());
        let damaged = |reason| SecretsError::Damaged {
            path: directory.join(super::names::CA_CERTIFICATE),
            reason,
        };
        let peers = PeerVerifier::new(secrets.roots(), accepted).map_err(damaged)?;
        let admins = PeerVerifier::new(secrets.roots(), Accepted::Anybody).map_err(damaged)?;
        let certificate = RotatingCertificate::empty();
        let inner = Arc::new(Inner {
            directory: directory.to_owned(),
            identity,
            certificate,
            peers,
            admins,
        });
        inner.renew(secrets)?;
        Ok(Self {
            server: Arc::new(inner.server(&inner.peers)),
            client: Arc::new(inner.client()),
            inner,
        })
    }

    /// Whom this controller's certificate names.
    pub fn identity(&self) -> &PeerIdentity {
        &self.inner.identity
    }

    /// Keeps the certificate fresh until the stage stops.
    pub fn keep_fresh(&self, stage: &Stage) {
        let (inner, stopping) = (Arc::clone(&self.inner), stage.stopping());
        stage.vital("peer certificate", async move {
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = tokio::time::sleep(RENEW_EVERY) => {}
                }
                match Secrets::load(&inner.directory).and_then(|secrets| inner.renew(&secrets)) {
                    Ok(()) => debug!("made a new peer certificate"),
                    Err(failure) => {
                        warn!(%failure, "cannot renew the peer certificate; the old one is kept")
                    }
                }
            }
        });
    }
}

/// For the admin port: the same certificate and roots, and any client that chains to them. Who it is decides each call.
pub fn admin_server_config(peer_tls: &PeerTls) -> Arc<ServerConfig> {
    Arc::new(peer_tls.inner.server(&peer_tls.inner.admins))
}

impl Inner {
    fn renew(&self, secrets: &Secrets) -> Result<(), SecretsError> {
        let damaged = |path: &str, reason: String| SecretsError::Damaged {
            path: self.directory.join(path),
            reason,
        };
        let (ca, ca_key) = secrets.signer();
        let names = Names {
            common_name: self.identity.name.clone(),
            uris: vec![self.identity.uri()],
            dns: vec![SERVER_NAME.to_owned()],
            ..Names::default()
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs().cast_signed());
        let term = Term {
            not_before: now - BACKDATE,
            not_after: now + LIFETIME,
        };
        let make = || -> Result<_, Box<dyn std::error::Error>> {
            let key = P256Key::generate()?;
            let leaf = pki::issue(&names, Purpose::Leaf, term, &key, ca, ca_key)?;
            Ok((leaf, key))
        };
        let (leaf, key) =
            make().map_err(|failure| damaged(super::names::CA_KEY, failure.to_string()))?;
        for verifier in [&self.peers, &self.admins] {
            verifier
                .replace_roots(secrets.roots())
                .map_err(|reason| damaged(super::names::CA_CERTIFICATE, reason))?;
        }
        self.certificate.set(vec![leaf], key);
        Ok(())
    }

    fn server(&self, verifier: &Arc<PeerVerifier>) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(tls::VERSIONS)
            .expect("aws-lc speaks TLS 1.3")
            .with_client_cert_verifier(Arc::clone(verifier) as _)
            .with_cert_resolver(Arc::clone(&self.certificate) as _);
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        // A resumed session would carry a certificate past its end or past a change of roots.
        config.send_tls13_tickets = 0;
        config
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(tls::VERSIONS)
            .expect("aws-lc speaks TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&self.peers) as _)
            .with_client_cert_resolver(Arc::clone(&self.certificate) as _);
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config
    }
}
