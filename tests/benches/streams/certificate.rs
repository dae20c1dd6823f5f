//! The generator's own certificate: by a join token from the identity service, as every sidecar gets its own.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use maille_tests::cluster::Cluster;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use xds_api::generated::maille::v1::CertifyRequest;
use xds_api::generated::maille::v1::identity_client::IdentityClient;

use crate::stream;

/// TLS for the streams of workload `bench/…`, service account `client`.
pub(crate) async fn obtain(
    cluster: &Cluster,
    server: SocketAddr,
) -> anyhow::Result<Arc<ClientConfig>> {
    let join_token = cluster.token("bench", "client").await?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let csr = CertificateParams::default().serialize_request(&key)?;
    let anonymous = config().with_no_client_auth();
    let channel = stream::channel(Arc::new(finish(anonymous)), server).await?;
    let request = CertifyRequest {
        csr: csr.der().to_vec().into(),
        join_token,
        workload: "bench/generator".into(),
    };
    let answer = IdentityClient::new(channel)
        .certify(request)
        .await
        .context("certifying")?;
    let chain = answer.into_inner().chain;
    let chain = chain
        .into_iter()
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok(Arc::new(finish(
        config().with_client_auth_cert(chain, key)?,
    )))
}

fn config() -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Every stream is to cost the server a whole handshake, as a sidecar that has never been there does.
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// The bench measures the server; a thousand verifications here would only take CPU from it.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
