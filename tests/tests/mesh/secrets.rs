//! Keys stay sealed: the root key's bytes and the data key's stand nowhere in what a run leaves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use maille_tests::cluster::Cluster;
use maille_tests::mesh::service;
use rustix::process::Signal;
use serde_json::json;

/// Every form in which bytes may have been written.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let spaced = secret.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut forms = vec![
        secret.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
    ];
    // A secret inside a longer base64 text begins at any of three offsets; the middle is the same whatever stands around it.
    for offset in 0..3 {
        let padded: Vec<u8> = std::iter::repeat_n(0, offset)
            .chain(secret.iter().copied())
            .collect();
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = engine.encode(&padded);
            forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
        }
    }
    forms.push(spaced.join(", ").into_bytes());
    forms.push(spaced.join(",").into_bytes());
    forms
}

fn files(directory: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files(&entry.path(), into)?;
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
    Ok(())
}

/// Whether one of the needles stands in the haystack. One pass for all: a log's segments are large, and this is not optimised.
fn contains(haystack: &[u8], needles: &[Vec<u8>]) -> bool {
    let mut by_first = vec![Vec::new(); 256];
    for needle in needles {
        // What was preallocated is zeros; a search that skips them must not look for any at the front.
        let zeros = needle.iter().take_while(|byte| **byte == 0).count();
        by_first[usize::from(needle[zeros])].push(&needle[zeros..]);
    }
    let mut at = 0;
    while let Some(from) = haystack[at..].iter().position(|byte| *byte != 0) {
        at += from;
        let here = &haystack[at..];
        if by_first[usize::from(here[0])]
            .iter()
            .any(|needle| here.starts_with(needle))
        {
            return true;
        }
        at += 1;
    }
    false
}

/// The private scalar of a P-256 key in PKCS#8: RFC 5915's octet string of 32 bytes.
fn scalar(pem: &str) -> anyhow::Result<Vec<u8>> {
    let text: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let der = STANDARD.decode(text)?;
    let at = der
        .windows(5)
        .position(|window| window == [2, 1, 1, 4, 32])
        .context("no P-256 private key")?;
    Ok(der[at + 5..at + 37].to_vec())
}

/// Whether a file holds a secret in any form; line breaks do not hide it.
fn holds(path: &Path, secret: &[u8]) -> anyhow::Result<bool> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let joined: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\n' | b'\r'))
        .collect();
    let forms = forms(secret);
    Ok(contains(&bytes, &forms) || contains(&joined, &forms))
}

/// A root with its key, as files in a directory that is not the cluster's. Answers the key's scalar.
fn bring_root(directory: &Path) -> anyhow::Result<Vec<u8>> {
    let key = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        rcgen::KeyUsagePurpose::KeyCertSign,
        rcgen::KeyUsagePurpose::CrlSign,
    ];
    std::fs::write(
        directory.join("root.crt"),
        parameters.self_signed(&key)?.pem(),
    )?;
    std::fs::write(directory.join("root.key"), key.serialize_pem())?;
    scalar(&key.serialize_pem())
}

/// The cluster's data key in clear, unwrapped as a controller does it: by the key-encryption key, from what a snapshot holds of it.
///
/// Written down here once more, so that the scan looks for the real key and not for what the product says it is.
fn data_key(snapshot: &Path, secrets: &Path) -> anyhow::Result<Vec<u8>> {
    /// `Sealed`: name `data-key`, sealed by a name of 20 bytes, a blob of format, scope, nonce, 32 bytes and a tag.
    const BEFORE: &[u8] = b"\x0a\x08data-key\x12\x14kek/";
    const NAME: usize = 20;
    const BLOB: usize = 1 + 16 + 12 + 32 + 16;
    let bytes = std::fs::read(snapshot)?;
    let at = bytes
        .windows(BEFORE.len())
        .position(|window| window == BEFORE)
        .context("the snapshot holds no wrapped data key")?;
    let by = at + BEFORE.len() - b"kek/".len();
    let blob = by + NAME + 2;
    let (by, blob) = (&bytes[by..by + NAME], &bytes[blob..blob + BLOB]);
    let (head, sealed) = blob.split_at(1 + 16 + 12);
    let mut aad = b"maille sealed secret".to_vec();
    aad.extend_from_slice(&head[..1 + 16]);
    for text in [b"data-key".as_slice(), by] {
        aad.extend_from_slice(&u32::try_from(text.len())?.to_be_bytes());
        aad.extend_from_slice(text);
    }
    let kek = std::fs::read(secrets.join("kek"))?;
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &kek)?);
    let nonce = Nonce::try_assume_unique_for_key(&head[1 + 16..])?;
    let mut clear = sealed.to_vec();
    let clear = cipher.open_in_place(nonce, Aad::from(aad), &mut clear)?;
    ensure!(clear.len() == 32, "a data key of {} bytes", clear.len());
    Ok(clear.to_vec())
}

#[test]
fn the_scan_finds_a_secret_in_every_form() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let secret = bring_root(directory.path())?;
    let file = directory.path().join("form");
    for form in forms(&secret) {
        std::fs::write(&file, [b"before ".as_slice(), &form, b" behind"].concat())?;
        ensure!(
            holds(&file, &secret)?,
            "{:?}",
            String::from_utf8_lossy(&form)
        );
    }
    ensure!(
        holds(&directory.path().join("root.key"), &secret)?,
        "not found in its own PEM file"
    );
    ensure!(
        !holds(&directory.path().join("root.crt"), &secret)?,
        "found in the certificate"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_root_key_nor_the_data_key_is_in_what_a_run_leaves() -> anyhow::Result<()> {
    let outside = tempfile::tempdir()?;
    let secret = bring_root(outside.path())?;
    let mut cluster = Cluster::prepare(3, |config| {
        config["root"] = json!({"certificate": outside.path().join("root.crt"), "key": outside.path().join("root.key")});
        config["snapshotEvery"] = json!(20);
        config["log"] = json!({"level": "debug"});
    })
    .await?;
    for index in 0..3 {
        cluster.start_dumping(index)?;
    }
    cluster.ready().await?;
    for number in 0..60 {
        cluster
            .apply(&service(&format!("s-{number}"), "a", "http").to_string())
            .await?;
    }
    cluster.token("shop", "web").await?;
    let backup = cluster.path().join("backup.snapshot");
    let saved = cluster
        .cli(&["snapshot", "save", &backup.to_string_lossy()])
        .await?;
    ensure!(saved.code == Some(0), "{saved:?}");
    cluster.agreed().await?;
    // What a crash leaves belongs to it.
    for index in 0..3 {
        let mut process = cluster.controllers[index]
            .process
            .take()
            .context("it runs")?;
        process.signal(Signal::ABORT)?;
        process.ended(Duration::from_secs(20)).await?;
    }
    let mut paths = Vec::new();
    files(cluster.path(), &mut paths)?;
    let named = |part: &str| {
        paths
            .iter()
            .any(|path| path.to_string_lossy().contains(part))
    };
    ensure!(named("backup.snapshot") && named("c1.log"), "{paths:?}");
    let data_key = data_key(&backup, &cluster.path().join("secrets"))?;
    for (what, secret) in [("root", &secret), ("data", &data_key)] {
        let mut hits = Vec::new();
        for path in &paths {
            if holds(path, secret)? {
                hits.push(path);
            }
        }
        ensure!(hits.is_empty(), "the {what} key stands in {hits:?}");
    }
    Ok(())
}
