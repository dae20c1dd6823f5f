//! The practical limit of a Rust HTTP proxy: hyper and rustls with no route, policy, balancing or metrics. Only the
//! benches run it, beside the mesh's own proxy.
//!
//! `bare-relay client|server http1|http2 LISTEN UPSTREAM CERTIFICATES`: the client half takes plain text and speaks mutual TLS to
//! `UPSTREAM`, the server half the other way round. `CERTIFICATES` is a directory with `ca.pem`, `cert.pem` and `key.pem`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Io = TokioIo<Box<dyn Stream>>;

struct Relay {
    client_half: bool,
    http2: bool,
    upstream: SocketAddr,
    acceptor: tokio_rustls::TlsAcceptor,
    connector: tokio_rustls::TlsConnector,
    shared: OnceCell<http2::SendRequest<Incoming>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [half, protocol, listen, upstream, certificates] = arguments.as_slice() else {
        bail!("usage: bare-relay client|server http1|http2 LISTEN UPSTREAM CERTIFICATES");
    };
    let http2 = protocol == "http2";
    let (acceptor, connector) = tls(Path::new(certificates), http2)?;
    let relay = Arc::new(Relay {
        client_half: half == "client",
        http2,
        upstream: upstream.parse()?,
        acceptor,
        connector,
        shared: OnceCell::new(),
    });
    let listener = TcpListener::bind(listen.parse::<SocketAddr>()?).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        let relay = Arc::clone(&relay);
        tokio::spawn(async move {
            // A peer that goes away ends its connection; the bench counts at the client.
            serve(relay, socket).await.ok();
        });
    }
}

fn tls(
    directory: &Path,
    http2: bool,
) -> anyhow::Result<(tokio_rustls::TlsAcceptor, tokio_rustls::TlsConnector)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("ca.pem"))?)?;
    let roots = Arc::new(roots);
    let chain = vec![CertificateDer::from_pem_file(directory.join("cert.pem"))?];
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem"))?;
    let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::clone(&roots)).build()?;
    let alpn = vec![if http2 {
        b"h2".to_vec()
    } else {
        b"http/1.1".to_vec()
    }];
    let mut server = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())?;
    server.alpn_protocols.clone_from(&alpn);
    let mut client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    client.alpn_protocols = alpn;
    Ok((Arc::new(server).into(), Arc::new(client).into()))
}

async fn serve(relay: Arc<Relay>, socket: TcpStream) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let io: Io = if relay.client_half {
        TokioIo::new(Box::new(socket))
    } else {
        TokioIo::new(Box::new(relay.acceptor.accept(socket).await?))
    };
    if relay.http2 {
        serve_http2(relay, io).await
    } else {
        serve_http1(relay, io).await
    }
}

async fn connect(relay: &Relay) -> anyhow::Result<Io> {
    let socket = TcpStream::connect(relay.upstream)
        .await
        .context("connecting upstream")?;
    socket.set_nodelay(true)?;
    if !relay.client_half {
        return Ok(TokioIo::new(Box::new(socket)));
    }
    let name = ServerName::try_from("bench.maille").context("a server name")?;
    Ok(TokioIo::new(Box::new(
        relay.connector.connect(name, socket).await?,
    )))
}

async fn serve_http1(relay: Arc<Relay>, io: Io) -> anyhow::Result<()> {
    let (sender, connection) = http1::handshake::<_, Incoming>(connect(&relay).await?).await?;
    tokio::spawn(connection);
    let sender = Arc::new(tokio::sync::Mutex::new(sender));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let sender = Arc::clone(&sender);
        async move { sender.lock().await.send_request(request).await }
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(io, service)
        .await?;
    Ok(())
}

async fn serve_http2(relay: Arc<Relay>, io: Io) -> anyhow::Result<()> {
    let make = || async {
        let io = connect(&relay).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        anyhow::Ok(sender)
    };
    let sender = relay.shared.get_or_try_init(make).await?.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let mut sender = sender.clone();
        async move {
            if request.uri().scheme().is_none() {
                let mut parts = request.uri().clone().into_parts();
                parts.scheme = Some(http::uri::Scheme::HTTP);
                parts
                    .authority
                    .get_or_insert_with(|| http::uri::Authority::from_static("bench.maille"));
                if let Ok(uri) = Uri::from_parts(parts) {
                    *request.uri_mut() = uri;
                }
            }
            sender.send_request(request).await
        }
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(io, service)
        .await?;
    Ok(())
}
