//! The root key and the data key are in no byte that leaves the process: not in the log, not in a snapshot.

use base64::Engine;
use bytes::Bytes;

use super::*;
use crate::config::RootFiles;
use crate::model::State;
use crate::model::command::SetTrust;

/// The secret in the forms in which a careless program writes it: raw, hex, base64 at any alignment.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![
        secret.to_vec(),
        hex::encode(secret).into_bytes(),
        hex::encode_upper(secret).into_bytes(),
    ];
    for shift in 0..3 {
        let padded = [&vec![0; shift][..], secret].concat();
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded);
        // The first and last groups depend on the neighbours.
        forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    forms
}

pub(super) fn found(haystack: &[u8], secret: &[u8]) -> bool {
    forms(secret)
        .iter()
        .any(|form| haystack.windows(form.len()).any(|window| window == form))
}

/// The private scalar inside PKCS#8: what an attacker wants, in whatever wrapping.
fn scalar(pkcs8: &[u8]) -> Vec<u8> {
    let place = pkcs8
        .windows(2)
        .position(|window| window == [0x04, 0x20])
        .unwrap();
    pkcs8[place + 2..place + 34].to_vec()
}

pub(super) fn secrets(state: &State, keyring: &Keyring) -> [Vec<u8>; 2] {
    let root = super::super::root::open(state, keyring).unwrap();
    [
        scalar(&root.key.to_pkcs8().unwrap()),
        keyring.data_key(state).unwrap().clear().to_vec(),
    ]
}

fn written(proposals: &[Proposal], state: &State) -> Vec<u8> {
    let mut bytes: Vec<u8> = proposals
        .iter()
        .flat_map(|proposal| proposal.encode().to_vec())
        .collect();
    for chunk in state.encode() {
        bytes.extend_from_slice(&chunk);
    }
    bytes.extend_from_slice(format!("{state:?} {proposals:?}").as_bytes());
    bytes
}

/// What a proposer that forgot to seal would write.
pub(super) fn unsealed(name: &str, clear: &[u8]) -> crate::model::Sealed {
    crate::model::Sealed {
        name: name.to_owned(),
        sealed_by: "nothing".to_owned(),
        blob: Bytes::copy_from_slice(clear),
    }
}

#[tokio::test]
async fn neither_the_root_key_nor_the_data_key_is_in_log_snapshot_or_debug_text() {
    let site = Site::issuing().await;
    site.certify(&site.token(|_| {})).await.unwrap();
    let state = site.alone.now();
    let bytes = written(&site.alone.writes(), &state);
    for secret in secrets(&state, &Keyring::new(Kek::new(KEK))) {
        assert!(!found(&bytes, &secret));
    }
    site.supervisor.stop().await;
}

#[tokio::test]
async fn the_scan_finds_the_keys_once_the_seal_is_taken_out() {
    let site = Site::issuing().await;
    let state = site.alone.now();
    let keyring = Keyring::new(Kek::new(KEK));
    let root = super::super::root::open(&state, &keyring).unwrap();
    let [root_scalar, data_key] = secrets(&state, &keyring);
    let sealed = vec![
        unsealed("data-key", &data_key),
        unsealed("root", &root.key.to_pkcs8().unwrap()),
    ];
    let before = site.alone.writes().len();
    let roots = state.mesh().roots().to_vec();
    site.write(Command::SetTrust(SetTrust {
        expected_revision: state.trust_revision(),
        roots,
        sealed,
    }));
    let bytes = written(&site.alone.writes()[before..], &site.alone.now());
    assert!(found(&bytes, &root_scalar) && found(&bytes, &data_key));
    site.supervisor.stop().await;
}

#[tokio::test]
async fn another_key_encryption_key_leaves_the_controller_sealed_and_says_so() {
    let site = Site::issuing().await;
    let sealed = start(&site.alone, [1; 32], settings());
    let standing = sealed
        .stands(|standing| matches!(standing, Standing::Sealed(_)))
        .await;
    let Standing::Sealed(why) = standing else {
        unreachable!()
    };
    assert!(why.contains("put the cluster's own `kek`"), "{why}");
    let refused = sealed
        .certify(&site.token(|_| {}))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("put the cluster's own `kek`"), "{refused}");
    sealed.supervisor.stop().await;
    site.supervisor.stop().await;
}

#[tokio::test]
async fn a_restored_state_opens_in_its_new_cluster() {
    let site = Site::issuing().await;
    let restored = site
        .alone
        .now()
        .restored("0c6a3a3e-6b0c-4b8f-9a54-0000000000ff", 9);
    super::super::root::open(&restored, &Keyring::new(Kek::new(KEK))).unwrap();
    site.supervisor.stop().await;
}

#[tokio::test]
async fn a_root_that_was_brought_along_signs_and_one_that_cannot_is_refused() {
    let here = tempfile::tempdir().unwrap();
    let (key, other) = (P256Key::generate().unwrap(), P256Key::generate().unwrap());
    let names = pki::Names {
        common_name: "Our root".to_owned(),
        ..pki::Names::default()
    };
    let term = pki::Term {
        not_before: now() - 10,
        not_after: now() + 365 * 86_400,
    };
    let root = pki::self_signed(&names, term, &key).unwrap();
    let files = RootFiles {
        certificate: here.path().join("root.crt"),
        key: here.path().join("root.key"),
    };
    std::fs::write(&files.certificate, pki::to_pem(std::slice::from_ref(&root))).unwrap();
    std::fs::write(&files.key, other.to_pem().unwrap().as_bytes()).unwrap();

    let brought = AuthoritySettings {
        root: Some(files.clone()),
        ..settings()
    };
    let site = start(&Alone::new(), KEK, brought.clone());
    let standing = site
        .stands(|standing| matches!(standing, Standing::Sealed(_)))
        .await;
    assert!(
        format!("{standing:?}").contains("it is not the certificate's key"),
        "{standing:?}"
    );
    site.supervisor.stop().await;

    std::fs::write(&files.key, key.to_pem().unwrap().as_bytes()).unwrap();
    let site = start(&Alone::new(), KEK, brought);
    site.stands(|standing| *standing == Standing::Issuing).await;
    assert_eq!(root[..], site.alone.now().mesh().roots()[0].certificate[..]);
    site.supervisor.stop().await;
}
