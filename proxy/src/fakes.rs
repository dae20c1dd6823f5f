//! For the tests of several modules: an authority that issues at once, and controllers that serve what a test gives them.
#![allow(clippy::unwrap_used)]

use crate::config::HostPort;
use crate::identity::Credentials;
use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::service::Routes;
use tonic::transport::server::{Connected, Server};

pub(crate) const TRUST_DOMAIN: &str = "mesh.test";

/// `spiffe://mesh.test/ns/<namespace>/sa/<account>`.
pub(crate) fn spiffe(namespace: &str, account: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}")
}

/// A root that signs leaves itself.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) root: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Self { issuer, root }
    }

    fn leaf(mut params: CertificateParams, id: &str, lifetime: Duration) -> CertificateParams {
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(300)).into();
        params.not_after = (now + lifetime).into();
        params
    }

    /// Signs a request, whatever it says, for `id`.
    pub(crate) fn sign(&self, request: &[u8], id: &str, lifetime: Duration) -> Bytes {
        let mut request = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        request.params = Self::leaf(request.params, id, lifetime);
        let leaf = request.signed_by(&self.issuer).unwrap();
        Bytes::copy_from_slice(leaf.der())
    }

    /// A leaf with a key of its own.
    pub(crate) fn issue(&self, id: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = Self::leaf(CertificateParams::default(), id, Duration::from_secs(3600));
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (
            leaf.der().clone(),
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
    }

    /// What a workload of this authority holds.
    pub(crate) fn credentials(&self, id: &str) -> Arc<Credentials> {
        let key = crate::identity::PrivateKey::generate().unwrap();
        let leaf = self.sign(&key.request().unwrap(), id, Duration::from_secs(3600));
        Arc::new(Credentials::for_test(
            id,
            TRUST_DOMAIN,
            key,
            &leaf,
            &self.root,
        ))
    }

    /// A controller's TLS: the controller's own identity, client certificates taken and not demanded.
    pub(crate) fn controller(&self) -> Arc<ServerConfig> {
        let (leaf, key) = self.issue(&crate::identity::controller_of(TRUST_DOMAIN));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![leaf], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

/// A controller on loopback, gone when it is dropped, its connections with it.
pub(crate) struct Controller {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Controller {
    /// Ends it, and gives back its address once that is free again.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.serving.abort();
        // The error says that it was aborted.
        (&mut self.serving).await.unwrap_err();
        self.address
    }

    pub(crate) fn host_port(&self) -> HostPort {
        self.address.to_string().parse().unwrap()
    }
}

/// Serves `routes` on a free port of loopback.
pub(crate) async fn serve(tls: Arc<ServerConfig>, routes: Routes) -> Controller {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = accepted(listener, TlsAcceptor::from(tls));
    let serving = tokio::spawn(async move {
        let server = Server::builder().add_routes(routes);
        server.serve_with_incoming(incoming).await.unwrap();
    });
    Controller { address, serving }
}

fn accepted(
    listener: TcpListener,
    tls: TlsAcceptor,
) -> impl futures_util::Stream<Item = std::io::Result<Accepted>> {
    futures_util::stream::unfold((listener, tls), |(listener, tls)| async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not like us, or that we do not like, is its own business.
            if let Ok(stream) = tls.accept(stream).await {
                return Some((Ok(Accepted(stream)), (listener, tls)));
            }
        }
    })
}

/// Who is at the other end of a call, in the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Option<String>);

pub(crate) struct Accepted(TlsStream<TcpStream>);

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        let chain = self.0.get_ref().1.peer_certificates();
        let leaf = chain.and_then(|chain| chain.first());
        let identity = leaf.and_then(|leaf| crate::identity::identity_of(leaf).ok());
        Caller(identity.map(str::to_owned))
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Waits until `found` answers something, at most ten seconds.
pub(crate) async fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: not in ten seconds"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// TLS before a server that speaks plain TCP: `backend`, which may come and go.
pub(crate) async fn front(tls: Arc<ServerConfig>, backend: SocketAddr) -> Controller {
    front_on("127.0.0.1:0".parse().unwrap(), tls, backend).await
}

/// The same on an address, the one of a front that was there before and whose connections are gone with it.
pub(crate) async fn front_on(
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    backend: SocketAddr,
) -> Controller {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(tls);
    let serving = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut backend = TcpStream::connect(backend).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut backend).await
            });
        }
    });
    Controller { address, serving }
}
