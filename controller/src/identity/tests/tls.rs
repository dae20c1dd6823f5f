//! Who may shake hands at the xDS and identity port.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::tls::RotatingCertificate;

/// What the server sees of the client, or why there was no handshake.
async fn shake(
    site: &Site,
    certificate: Arc<RotatingCertificate>,
) -> Result<Option<Facts>, String> {
    let client = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(crate::tls::VERSIONS)
        .unwrap()
        .with_root_certificates(roots(site))
        .with_client_cert_resolver(certificate);
    let (near, far) = tokio::io::duplex(1 << 16);
    let serving = async {
        let mut io = TlsAcceptor::from(site.server_tls.config())
            .accept(far)
            .await
            .map_err(|e| e.to_string())?;
        io.write_all(b"!").await.map_err(|e| e.to_string())?;
        Ok(io
            .get_ref()
            .1
            .peer_certificates()
            .map(|chain| pki::parse(&chain[0]).unwrap()))
    };
    let calling = async {
        let name = ServerName::try_from(crate::peer_ca::SERVER_NAME).unwrap();
        let mut io = TlsConnector::from(Arc::new(client))
            .connect(name, near)
            .await
            .map_err(|e| e.to_string())?;
        let server = pki::parse(&io.get_ref().1.peer_certificates().unwrap()[0]).unwrap();
        assert_eq!(
            Some(controller_identity("mesh.local").as_str()),
            server.spiffe_id()
        );
        io.read_u8().await.map_err(|e| e.to_string())
    };
    let (served, called) = tokio::join!(serving, calling);
    called?;
    served
}

#[tokio::test]
async fn clients_come_without_a_name_or_with_one_of_the_mesh_and_no_other() {
    let site = Site::issuing().await;
    assert_eq!(
        None,
        shake(&site, RotatingCertificate::empty()).await.unwrap()
    );

    let key = P256Key::generate().unwrap();
    let token = site.token(|_| {}).to_string();
    let request = request(&key);
    let asking = Asking {
        request: &request,
        token: &token,
        account_token: "",
        leaf: None,
        workload: "",
    };
    let certified = site.authority.certify(asking).await.unwrap();
    let ours = RotatingCertificate::empty();
    ours.set(certified.chain, key);
    let seen = shake(&site, ours).await.unwrap().unwrap();
    assert_eq!(Some("spiffe://mesh.local/ns/shop/sa/web"), seen.spiffe_id());

    let key = P256Key::generate().unwrap();
    let names = pki::Names {
        uris: vec!["spiffe://mesh.local/ns/shop/sa/web".to_owned()],
        ..pki::Names::default()
    };
    let term = pki::Term {
        not_before: now() - 10,
        not_after: now() + 1000,
    };
    let forged = RotatingCertificate::empty();
    forged.set(vec![pki::self_signed(&names, term, &key).unwrap()], key);
    shake(&site, forged).await.unwrap_err();
    site.supervisor.stop().await;
}
