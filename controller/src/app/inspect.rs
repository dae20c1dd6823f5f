//! `snapshot inspect`: verifies a snapshot file whole and says what is in it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use bytes::Buf;
use serde::Serialize;

use super::Failure;
use super::arguments::Output;
use crate::model::{Kind, State};
use crate::store::snapshot::SnapshotFile;

/// What a snapshot holds.
#[derive(Debug, Serialize)]
struct Contents {
    file: String,
    bytes: u64,
    sha256: String,
    cluster: String,
    trust_domain: String,
    level: u32,
    incarnation: u64,
    log_index: u64,
    mesh_index: u64,
    mesh_hash: String,
    objects: BTreeMap<String, u64>,
    instances: u64,
    members: Vec<String>,
    tokens: u64,
    certificates_issued: u64,
    sealed_secrets: Vec<String>,
}

pub(super) fn inspect(file: &Path, output: Output) -> Result<String, Failure> {
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| Failure::Refused {
        part: "the snapshot",
        source,
    };
    let snapshot = SnapshotFile::open(file).map_err(|failure| refused(failure.into()))?;
    let chunks = snapshot
        .chunks()
        .map_err(|failure| refused(failure.into()))?;
    let body: Vec<u8> = chunks
        .iter()
        .flat_map(|chunk| chunk.iter().copied())
        .collect();
    let state =
        State::decode(body.as_slice().reader()).map_err(|failure| refused(failure.into()))?;
    let contents = contents(file, &snapshot, &state);
    Ok(match output {
        Output::Json => {
            let text = serde_json::to_string_pretty(&contents)
                .expect("texts and numbers always have a JSON form");
            format!("{text}\n")
        }
        Output::Table => table(&contents),
    })
}

fn contents(file: &Path, snapshot: &SnapshotFile, state: &State) -> Contents {
    let mesh = state.mesh();
    Contents {
        file: file.display().to_string(),
        bytes: snapshot.inspection().bytes,
        sha256: hex::encode(snapshot.inspection().sha256),
        cluster: snapshot.header().cluster.clone(),
        trust_domain: mesh.trust_domain().to_owned(),
        level: snapshot.header().level,
        incarnation: mesh.incarnation(),
        log_index: state.log_index(),
        mesh_index: mesh.index(),
        mesh_hash: hex::encode(state.hash()),
        objects: Kind::ALL
            .iter()
            .map(|kind| (kind.name().to_owned(), mesh.count(*kind) as u64))
            .collect(),
        instances: mesh.instances().len() as u64,
        members: state
            .members()
            .values()
            .map(|member| member.name.clone())
            .collect(),
        tokens: state.tokens().len() as u64,
        certificates_issued: state.issuance().count(),
        sealed_secrets: state.sealed().keys().cloned().collect(),
    }
}

fn table(contents: &Contents) -> String {
    let mut text = String::new();
    let objects: Vec<String> = contents
        .objects
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    let rows = [
        ("file", contents.file.clone()),
        ("bytes", contents.bytes.to_string()),
        ("sha256", contents.sha256.clone()),
        ("cluster", contents.cluster.clone()),
        ("trust domain", contents.trust_domain.clone()),
        ("level", contents.level.to_string()),
        ("incarnation", contents.incarnation.to_string()),
        ("log index", contents.log_index.to_string()),
        ("mesh index", contents.mesh_index.to_string()),
        ("mesh hash", contents.mesh_hash.clone()),
        ("objects", objects.join(", ")),
        ("instances", contents.instances.to_string()),
        ("members", contents.members.join(", ")),
        ("tokens", contents.tokens.to_string()),
        (
            "certificates issued",
            contents.certificates_issued.to_string(),
        ),
        ("sealed secrets", contents.sealed_secrets.join(", ")),
    ];
    for (name, value) in rows {
        writeln!(text, "{name:<20} {value}").expect("writing to a String never fails");
    }
    text
}
