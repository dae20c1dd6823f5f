//! Handshakes over loopback with certificates made here.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::net;
use crate::testing::Authority;

async fn handshake(
    server: &Mesh,
    client: Arc<ClientConfig>,
) -> (Result<PeerIdentity, TlsError>, Result<bool, TlsError>) {
    let listener = net::listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let limit = Duration::from_secs(5);
    let accepting = async {
        let (stream, _) = net::accept(&listener).await;
        let Accepted {
            mut tls,
            peer,
            form,
            port,
        } = server.accept(stream).await?;
        assert_eq!((form, port), (Form::Native, Some(8080)));
        tokio::io::AsyncWriteExt::write_all(&mut tls, b"x")
            .await
            .unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut tls).await.unwrap();
        Ok(peer)
    };
    let calling = async {
        let stream = net::connect(address, limit).await.unwrap();
        let mut tls = connect(client, 8080, stream, limit).await?;
        let mut rest = Vec::new();
        // Also takes in the session tickets, and shows a refusal that comes after the handshake.
        tokio::io::AsyncReadExt::read_to_end(&mut tls, &mut rest)
            .await
            .map_err(|error| TlsError::Handshake(error.to_string()))?;
        Ok(resumed(tls.get_ref().1))
    };
    tokio::join!(accepting, calling)
}

#[tokio::test]
async fn both_sides_prove_who_they_are_and_the_second_time_is_resumed() {
    let authority = Authority::new();
    let (server, client) = (authority.mesh("demo", "api"), authority.mesh("demo", "web"));
    let config = client.client(&server.identity().id, Form::Native).unwrap();
    let (peer, resumed) = handshake(&server, config.clone()).await;
    assert_eq!(&*peer.unwrap().id, "spiffe://mesh.test/ns/demo/sa/web");
    assert!(!resumed.unwrap());
    let (peer, resumed) = handshake(&server, config).await;
    assert_eq!(&*peer.unwrap().namespace, "demo");
    assert!(resumed.unwrap());
}

#[tokio::test]
async fn an_endpoint_with_another_identity_is_refused() {
    let authority = Authority::new();
    let (server, client) = (authority.mesh("demo", "api"), authority.mesh("demo", "web"));
    let config = client
        .client(&"spiffe://mesh.test/ns/demo/sa/db".into(), Form::Native)
        .unwrap();
    let (_, answer) = handshake(&server, config).await;
    let text = answer.unwrap_err().to_string();
    assert!(text.contains("sa/api") && text.contains("sa/db"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.mesh("demo", "api");
    let stranger = theirs.mesh("demo", "web");
    let (accepted, called) = handshake(
        &server,
        stranger
            .client(&server.identity().id, Form::Native)
            .unwrap(),
    )
    .await;
    assert!(accepted.is_err() && called.is_err());
    let lenient = theirs.mesh_trusting("demo", "web", &[&ours, &theirs]);
    let (accepted, called) = handshake(
        &server,
        lenient.client(&server.identity().id, Form::Native).unwrap(),
    )
    .await;
    assert!(
        accepted.is_err() && called.is_err(),
        "{accepted:?} {called:?}"
    );
}

#[test]
fn sni_names_the_target_port() {
    for (name, port) in [
        ("8080.maille", Some(8080)),
        ("65535.maille", Some(65_535)),
        ("0.maille", None),
        ("65536.maille", None),
        ("a.8080.maille", None),
        ("8080.maille.org", None),
        (".maille", None),
    ] {
        assert_eq!(target(name), port, "{name}");
    }
}
