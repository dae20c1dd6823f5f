//! What `init` writes and refuses, and who may shake hands with whom.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::pki;

fn make(at: &Path) -> Initialized {
    let admin = AdminCertificate {
        name: "ada".to_owned(),
        grant: Grant::everything(),
        directory: at.join("admin"),
        endpoints: vec!["127.0.0.1:4702".to_owned()],
    };
    init(&at.join("secrets"), "mesh.local", &admin, None).unwrap()
}

fn tls_of(at: &Path, name: &str) -> PeerTls {
    let directory = at.join("secrets");
    PeerTls::new(&Secrets::load(&directory).unwrap(), &directory, name, "d1").unwrap()
}

/// What the server says of the client, or why there was no handshake.
async fn shake(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
) -> Result<pki::Facts, String> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let serving = async {
        let mut io = TlsAcceptor::from(server)
            .accept(far)
            .await
            .map_err(|e| e.to_string())?;
        io.write_all(b"!").await.map_err(|e| e.to_string())?;
        let facts = pki::parse(&io.get_ref().1.peer_certificates().unwrap()[0]).unwrap();
        Ok(facts)
    };
    let calling = async {
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let mut io = TlsConnector::from(client)
            .connect(name, near)
            .await
            .map_err(|e| e.to_string())?;
        io.read_u8().await.map_err(|e| e.to_string())
    };
    let (served, called) = tokio::join!(serving, calling);
    called?;
    served
}

#[tokio::test]
async fn controllers_of_one_cluster_know_each_other_by_cluster_name_and_directory() {
    let here = tempfile::tempdir().unwrap();
    let made = make(here.path());
    let (one, two) = (tls_of(here.path(), "c1"), tls_of(here.path(), "c2"));
    let facts = shake(one.server.clone(), two.client.clone()).await.unwrap();
    let seen = PeerIdentity::of(&facts).unwrap();
    assert_eq!(
        PeerIdentity {
            cluster_id: made.cluster_id,
            name: "c2".to_owned(),
            directory: "d1".to_owned()
        },
        seen
    );
}

#[tokio::test]
async fn another_clusters_controller_is_refused() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(here.path());
    make(there.path());
    let refused = shake(
        tls_of(here.path(), "c1").server,
        tls_of(there.path(), "c1").client,
    )
    .await;
    refused.unwrap_err();
}

#[tokio::test]
async fn an_administrator_may_call_the_admin_port_and_not_the_peer_port() {
    let here = tempfile::tempdir().unwrap();
    make(here.path());
    let peer_tls = tls_of(here.path(), "c1");
    let read = |name: &str| std::fs::read(here.path().join("admin").join(name)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(pki::parse_pem(&read("ca.crt")).unwrap()[0].clone())
        .unwrap();
    let certificate = crate::tls::RotatingCertificate::empty();
    certificate.set(
        pki::parse_pem(&read("client.crt")).unwrap(),
        pki::P256Key::from_pem(&read("client.key")).unwrap(),
    );
    let mut client = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(crate::tls::VERSIONS)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(certificate);
    client.alpn_protocols = vec![crate::tls::ALPN_H2.to_vec()];
    let client = Arc::new(client);

    let facts = shake(admin_server_config(&peer_tls), client.clone())
        .await
        .unwrap();
    assert_eq!(Some("spiffe://mesh.local/admin/ada"), facts.spiffe_id());
    assert_eq!(Some(Grant::everything()), Grant::of(&facts));
    shake(peer_tls.server.clone(), client).await.unwrap_err();
}

#[test]
fn init_overwrites_nothing_and_leaves_nothing_half_done() {
    let here = tempfile::tempdir().unwrap();
    make(here.path());
    let again = AdminCertificate {
        name: "ada".to_owned(),
        grant: Grant::everything(),
        directory: here.path().join("admin2"),
        endpoints: vec![],
    };
    let refused = init(&here.path().join("secrets"), "mesh.local", &again, None)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("init never overwrites"), "{refused}");

    let in_the_way = AdminCertificate {
        directory: here.path().join("admin"),
        ..again.clone()
    };
    init(
        &here.path().join("secrets2"),
        "mesh.local",
        &in_the_way,
        None,
    )
    .unwrap_err();
    let bad_name = AdminCertificate {
        name: "a/b".to_owned(),
        grant: Grant::everything(),
        ..again
    };
    init(&here.path().join("secrets2"), "mesh.local", &bad_name, None).unwrap_err();
    let mut left: Vec<_> = std::fs::read_dir(here.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(vec!["admin", "secrets"], left);
}

#[test]
fn a_restored_cluster_keeps_the_key_that_opens_its_root_and_gets_everything_else_anew() {
    let here = tempfile::tempdir().unwrap();
    make(here.path());
    let admin = AdminCertificate {
        name: "ada".to_owned(),
        grant: Grant::everything(),
        directory: here.path().join("admin2"),
        endpoints: vec![],
    };
    let old = here.path().join("secrets");
    init(
        &here.path().join("secrets2"),
        "mesh.local",
        &admin,
        Some(&old),
    )
    .unwrap();
    let (old, new) = (
        Secrets::load(&old).unwrap(),
        Secrets::load(&here.path().join("secrets2")).unwrap(),
    );
    assert_eq!(old.kek().bytes(), new.kek().bytes());
    assert_ne!(old.cluster_id(), new.cluster_id());
    assert_ne!(old.roots(), new.roots());
}

#[test]
fn secrets_that_are_missing_open_or_damaged_are_refused_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let here = tempfile::tempdir().unwrap();
    let secrets = here.path().join("secrets");
    let check = |expected: &str| {
        let refused = Secrets::load(&secrets).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    };
    check("make them once with `maille-controller init`");
    make(here.path());
    let kek = secrets.join(names::KEK);
    std::fs::set_permissions(&kek, std::fs::Permissions::from_mode(0o644)).unwrap();
    check("chmod 0400");
    std::fs::remove_file(&kek).unwrap();
    std::fs::write(&kek, [1; 31]).unwrap();
    std::fs::set_permissions(&kek, std::fs::Permissions::from_mode(0o400)).unwrap();
    check("it has 31 bytes instead of 32");
}

#[test]
fn a_role_and_its_namespaces_stand_in_the_certificate() {
    let here = tempfile::tempdir().unwrap();
    make(here.path());
    let check = |role, namespaces: &[&str], expected: bool| {
        let grant = Grant {
            role,
            namespaces: namespaces.iter().map(|&one| one.to_owned()).collect(),
        };
        let admin = AdminCertificate {
            name: "bob".to_owned(),
            grant: grant.clone(),
            directory: here.path().join(format!("{role}-{}", namespaces.len())),
            endpoints: Vec::new(),
        };
        let written = write_admin_certificate(&here.path().join("secrets"), &admin);
        assert_eq!(written.is_ok(), expected, "{written:?}");
        if !expected {
            return;
        }
        let pem = std::fs::read(admin.directory.join("client.crt")).unwrap();
        let facts = pki::parse(&pki::parse_pem(&pem).unwrap()[0]).unwrap();
        assert_eq!(Grant::of(&facts), Some(grant), "{facts:?}");
    };
    check(Role::Viewer, &[], true);
    check(Role::Editor, &["shop", "bench"], true);
    check(Role::Admin, &["shop"], false);
    check(Role::Viewer, &["a,b"], false);
}
