//! Sealing what goes into Raft: a key-encryption key wraps a data key, the data key encrypts a secret.
//!
//! Everything is encrypted before it is proposed, and `apply` never decrypts. AES-256-GCM-SIV, so that a nonce that is drawn
//! twice (a cloned machine, say) gives nothing away but that two plaintexts are equal.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use bytes::{BufMut, Bytes, BytesMut};
use zeroize::Zeroizing;

use crate::model::{Sealed, State};
use crate::peer_ca::Kek;

/// The name of the wrapped data key among the sealed secrets.
const DATA_KEY: &str = "data-key";
/// The layout `[u8 format][16 scope][12 nonce][ciphertext and tag]`.
const FORMAT: u8 = 1;
const SCOPE: usize = 16;
const NONCE: usize = 12;
const KEY: usize = 32;

/// A secret could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The state names another key-encryption key.
    #[error(
        "the sealed secrets were wrapped by the key-encryption key {theirs}, and this controller has {ours}; put the cluster's own `kek` into its secrets directory"
    )]
    OtherKek {
        /// What wrapped them.
        theirs: String,
        /// What is here.
        ours: String,
    },
    /// There is no such secret.
    #[error("the cluster has no sealed secret `{0}`")]
    Missing(String),
    /// Wrong key, another cluster's secret, or changed bytes: an authenticated cipher cannot tell which.
    #[error(
        "the sealed secret `{0}` does not open: it was changed, swapped with another, or is of a newer format"
    )]
    Damaged(String),
    /// The cipher refused to work.
    #[error("the sealed secret `{0}` could not be encrypted")]
    Encrypt(String),
}

/// Opens and seals by one key-encryption key. Holds no data key: that is unwrapped for each use.
#[derive(Debug)]
pub struct Keyring {
    kek: Kek,
    id: String,
}

/// A data key in clear, for as long as it is in use.
pub(super) struct DataKey {
    id: String,
    bytes: Zeroizing<[u8; KEY]>,
}

impl Keyring {
    /// A keyring with this key.
    pub fn new(kek: Kek) -> Self {
        let id = key_id("kek", kek.bytes());
        Self { kek, id }
    }

    /// Names the key-encryption key without telling it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Draws a data key and answers it with its wrapped form, to be proposed together with what it seals.
    pub(super) fn new_data_key(&self, cluster_id: &str) -> Result<(DataKey, Sealed), SealError> {
        let bytes = Zeroizing::new(rand::random::<[u8; KEY]>());
        let key = DataKey {
            id: key_id("data-key", &bytes),
            bytes,
        };
        let blob = encrypt(
            self.kek.bytes(),
            cluster_id,
            DATA_KEY,
            &self.id,
            key.bytes.as_slice(),
        )?;
        Ok((
            key,
            Sealed {
                name: DATA_KEY.to_owned(),
                sealed_by: self.id.clone(),
                blob,
            },
        ))
    }

    /// Unwraps the cluster's data key.
    pub(super) fn data_key(&self, state: &State) -> Result<DataKey, SealError> {
        let sealed = state
            .sealed()
            .get(DATA_KEY)
            .ok_or_else(|| SealError::Missing(DATA_KEY.to_owned()))?;
        if sealed.sealed_by != self.id {
            return Err(SealError::OtherKek {
                theirs: sealed.sealed_by.clone(),
                ours: self.id.clone(),
            });
        }
        let clear = decrypt(self.kek.bytes(), sealed)?;
        let bytes = Zeroizing::new(
            clear
                .as_slice()
                .try_into()
                .map_err(|_| SealError::Damaged(DATA_KEY.to_owned()))?,
        );
        Ok(DataKey {
            id: key_id("data-key", &bytes),
            bytes,
        })
    }
}

impl DataKey {
    #[cfg(test)]
    pub(super) fn clear(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Encrypts a secret under a name.
    pub(super) fn seal(
        &self,
        cluster_id: &str,
        name: &str,
        clear: &[u8],
    ) -> Result<Sealed, SealError> {
        let blob = encrypt(&self.bytes, cluster_id, name, &self.id, clear)?;
        Ok(Sealed {
            name: name.to_owned(),
            sealed_by: self.id.clone(),
            blob,
        })
    }

    /// Decrypts the state's secret of that name.
    pub(super) fn open(&self, state: &State, name: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let sealed = state
            .sealed()
            .get(name)
            .ok_or_else(|| SealError::Missing(name.to_owned()))?;
        if sealed.sealed_by != self.id {
            return Err(SealError::Damaged(name.to_owned()));
        }
        decrypt(&self.bytes, sealed)
    }
}

/// A key's public name: derived one way, so it tells nothing of the key.
fn key_id(purpose: &'static str, key: &[u8; KEY]) -> String {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            8
        }
    }
    let derived = Salt::new(HKDF_SHA256, b"maille key id v1").extract(key);
    let mut id = [0; 8];
    derived
        .expand(&[purpose.as_bytes()], Length)
        .and_then(|okm| okm.fill(&mut id))
        .expect("HKDF gives eight bytes from any key");
    format!("{purpose}/{}", hex::encode(id))
}

fn aad(scope: &[u8; SCOPE], name: &str, sealed_by: &str) -> Vec<u8> {
    let mut aad = BytesMut::new();
    aad.put_slice(b"maille sealed secret");
    aad.put_u8(FORMAT);
    aad.put_slice(scope);
    for text in [name, sealed_by] {
        aad.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        aad.put_slice(text.as_bytes());
    }
    aad.to_vec()
}

fn cipher(key: &[u8; KEY]) -> LessSafeKey {
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM_SIV, key).expect("the key has the cipher's length"),
    )
}

/// The cluster in which a secret is sealed stands in the blob: after a restore into another cluster it still opens, and
/// bytes from elsewhere never do.
fn encrypt(
    key: &[u8; KEY],
    cluster_id: &str,
    name: &str,
    by: &str,
    clear: &[u8],
) -> Result<Bytes, SealError> {
    let failed = || SealError::Encrypt(name.to_owned());
    let scope = *uuid::Uuid::parse_str(cluster_id)
        .map_err(|_| failed())?
        .as_bytes();
    let nonce: [u8; NONCE] = rand::random();
    // With room for the tag: growing would leave a copy of the secret behind.
    let mut sealed = Zeroizing::new(Vec::with_capacity(clear.len() + AES_256_GCM_SIV.tag_len()));
    sealed.extend_from_slice(clear);
    cipher(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad(&scope, name, by)),
            &mut *sealed,
        )
        .map_err(|_| failed())?;
    let mut blob = BytesMut::with_capacity(1 + SCOPE + NONCE + sealed.len());
    blob.put_u8(FORMAT);
    blob.put_slice(&scope);
    blob.put_slice(&nonce);
    blob.put_slice(&sealed);
    Ok(blob.freeze())
}

fn decrypt(key: &[u8; KEY], sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let damaged = || SealError::Damaged(sealed.name.clone());
    let (head, body) = sealed
        .blob
        .split_at_checked(1 + SCOPE + NONCE)
        .ok_or_else(damaged)?;
    if head[0] != FORMAT {
        return Err(damaged());
    }
    let scope: [u8; SCOPE] = head[1..=SCOPE].try_into().map_err(|_| damaged())?;
    let nonce: [u8; NONCE] = head[1 + SCOPE..].try_into().map_err(|_| damaged())?;
    let mut clear = Zeroizing::new(body.to_vec());
    let length = cipher(key)
        .open_in_place(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad(&scope, &sealed.name, &sealed.sealed_by)),
            &mut clear,
        )
        .map_err(|_| damaged())?
        .len();
    clear.truncate(length);
    Ok(clear)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CLUSTER: &str = "0c6a3a3e-6b0c-4b8f-9a54-000000000001";

    #[test]
    fn a_secret_opens_only_under_its_name_its_key_and_unchanged() {
        let key = [7; KEY];
        let sealed = |blob: Bytes, name: &str, by: &str| Sealed {
            name: name.to_owned(),
            sealed_by: by.to_owned(),
            blob,
        };
        let blob = encrypt(&key, CLUSTER, "root/1", "data-key/1", b"the secret").unwrap();
        let opened = decrypt(&key, &sealed(blob.clone(), "root/1", "data-key/1")).unwrap();
        assert_eq!(b"the secret", opened.as_slice());

        decrypt(&[8; KEY], &sealed(blob.clone(), "root/1", "data-key/1")).unwrap_err();
        decrypt(&key, &sealed(blob.clone(), "root/2", "data-key/1")).unwrap_err();
        decrypt(&key, &sealed(blob.clone(), "root/1", "data-key/2")).unwrap_err();
        for place in 0..blob.len() {
            let mut changed = blob.to_vec();
            changed[place] ^= 1;
            decrypt(&key, &sealed(changed.into(), "root/1", "data-key/1")).unwrap_err();
        }
        decrypt(&key, &sealed(blob.slice(..20), "root/1", "data-key/1")).unwrap_err();
    }

    #[test]
    fn a_keys_name_is_not_its_bytes() {
        let keyring = Keyring::new(Kek::new([0xAB; 32]));
        assert!(
            keyring.id().starts_with("kek/") && !keyring.id().contains("abab"),
            "{}",
            keyring.id()
        );
    }
}
