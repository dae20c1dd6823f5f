//! The way to a meshed endpoint: TCP to its mesh port, then mutual TLS in one form, the endpoint's identity demanded.

use super::peer::DialError;
use crate::metrics::Metrics;
use crate::net;
use crate::snapshot::MeshAddress;
use crate::tls::{self, Form, Mesh, Socket};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;

/// One endpoint in one form.
#[derive(Debug)]
pub struct Secured {
    address: SocketAddr,
    target_port: u16,
    expected: Arc<str>,
    form: Form,
    mesh: watch::Receiver<Option<Arc<Mesh>>>,
    metrics: Metrics,
    /// Holds the endpoint's sessions as long as the certificate is the same.
    client: Mutex<Option<(Arc<Mesh>, Arc<ClientConfig>)>>,
}

impl Secured {
    /// `target` is the application's address; the mesh port is dialled on the same host.
    pub fn new(
        target: SocketAddr,
        address: &MeshAddress,
        form: Form,
        mesh: watch::Receiver<Option<Arc<Mesh>>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            address: SocketAddr::new(target.ip(), address.port),
            target_port: target.port(),
            expected: address.identity.clone(),
            form,
            mesh,
            metrics,
            client: Mutex::default(),
        }
    }

    /// Who is called.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate in force.
    pub fn mesh(&self) -> Option<Arc<Mesh>> {
        self.mesh.borrow().clone()
    }

    /// A new connection, and the certificate that it was made with. `limit` is for TCP and for TLS, each.
    pub async fn dial(&self, limit: Duration) -> Result<(TlsStream<Socket>, Arc<Mesh>), DialError> {
        let (mesh, client) = self.client()?;
        let stream = net::connect(self.address, limit).await?;
        let handshake = tls::connect(client, self.target_port, stream, limit).await;
        let outcome = match &handshake {
            Ok(tls) if tls::resumed(tls.get_ref().1) => "resumed",
            Ok(_) => "full",
            Err(_) => "failed",
        };
        self.metrics.handshake("client", outcome);
        let failed = |cause| DialError::Tls {
            address: self.address,
            cause,
        };
        Ok((handshake.map_err(failed)?, mesh))
    }

    fn client(&self) -> Result<(Arc<Mesh>, Arc<ClientConfig>), DialError> {
        let mesh = self.mesh().ok_or(DialError::NoCertificate)?;
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made_from, client)) =
            kept.as_ref().filter(|(known, _)| Arc::ptr_eq(known, &mesh))
        {
            return Ok((made_from.clone(), client.clone()));
        }
        let client = mesh.client(&self.expected, self.form);
        let client = client.map_err(|cause| DialError::Tls {
            address: self.address,
            cause,
        })?;
        *kept = Some((mesh.clone(), client.clone()));
        Ok((mesh, client))
    }
}
